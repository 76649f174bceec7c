"""Signs of life of workers, in memory that they share with their parent: a number for each, raised by its event loop.

The parent compares numbers, not clocks: a pause of the whole machine, or of the parent, does not count as silence.
"""

import mmap
import struct
from typing import Final

_NUMBER: Final = struct.Struct("<Q")


class Heartbeats:
    """Made before the workers are, and inherited by them."""

    def __init__(self, places: int) -> None:
        self._memory = mmap.mmap(-1, places * _NUMBER.size)

    def beat(self, place: int) -> None:
        """Raises the number of the worker at that place, from 1 on; only this worker calls it."""
        _NUMBER.pack_into(self._memory, self._at(place), self.number(place) + 1)

    def number(self, place: int) -> int:
        """Returns the number of the worker at that place."""
        (number,) = _NUMBER.unpack_from(self._memory, self._at(place))
        return int(number)

    def _at(self, place: int) -> int:
        return (place - 1) * _NUMBER.size
