"""Heartbeats of workers, in memory shared with their parent: a counter for each, which its event loop increments.

The parent compares counters, not clocks: a pause of the whole machine, or of the parent, does not count as silence.
"""

import mmap
import struct
from typing import Final

_NUMBER: Final = struct.Struct("<Q")


class Heartbeats:
    """Created before the workers, which inherit it."""

    def __init__(self, places: int) -> None:
        self._memory = mmap.mmap(-1, places * _NUMBER.size)

    def beat(self, place: int) -> None:
        """Increments the counter of the worker at this position; only that worker calls it."""
        _NUMBER.pack_into(self._memory, self._at(place), self.number(place) + 1)

    def number(self, place: int) -> int:
        """Returns the counter of the worker at this position."""
        (number,) = _NUMBER.unpack_from(self._memory, self._at(place))
        return int(number)

    def _at(self, place: int) -> int:
        return (place - 1) * _NUMBER.size
