"""Shares the counts of one server's workers in memory, so that each of them can answer for all.

Each worker publishes its counts from time to time; the last counts of a worker that has died stay in the sums. The
memory is not a file: a full disk does not affect it, and it is freed with the processes.
"""

import mmap
import struct
import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

import msgspec

PLACE_BYTES: Final = 2**20
_HEAD: Final = struct.Struct("<QII")
_TRIES: Final = 200
_SEEN_BY_ALL: Final = ("xtrace_database_bytes", "xtrace_database_log_bytes", "xtrace_cluster_")
"""Sizes that all workers share."""
_OF_ALL: Final = 0
"""The place for the sums of workers that have died."""

Sample: TypeAlias = tuple[str, dict[str, str], float]


class Family(msgspec.Struct):
    """A metric with its samples: name, labels and value of each."""

    name: str
    documentation: str
    kind: str
    samples: list[Sample]


_decoder: Final = msgspec.msgpack.Decoder(list[Family])


class MetricsBoard:
    """Places for a fixed number of workers, created before them. Places count from 1."""

    def __init__(self, places: int) -> None:
        self._memory = mmap.mmap(-1, (places + 1) * PLACE_BYTES)
        self.places: Final = places

    def write(self, place: int, families: list[Family]) -> None:
        """Replaces the counts at a worker's place.

        Raises `ValueError` if they do not fit.
        """
        data = zlib.compress(msgspec.msgpack.encode(families), 1) if families else b""
        if len(data) > PLACE_BYTES - _HEAD.size:
            raise ValueError("the metrics of a worker are larger than their place")
        start = place * PLACE_BYTES
        turn, _, _ = _HEAD.unpack_from(self._memory, start)
        # A concurrent reader notices it by the odd number, or by the checksum.
        turn += 1 + turn % 2
        _HEAD.pack_into(self._memory, start, turn, len(data), zlib.crc32(data))
        self._memory[start + _HEAD.size : start + _HEAD.size + len(data)] = data
        _HEAD.pack_into(self._memory, start, turn + 1, len(data), zlib.crc32(data))

    def read(self, place: int) -> list[Family]:
        """Returns the last counts at the place; nothing if its worker died while writing."""
        start = place * PLACE_BYTES
        for _ in range(_TRIES):
            turn, size, checksum = _HEAD.unpack_from(self._memory, start)
            data = self._memory[start + _HEAD.size : start + _HEAD.size + size]
            if turn % 2 == 0 and zlib.crc32(data) == checksum:
                return _decoder.decode(zlib.decompress(data)) if data else []
            time.sleep(0.0001)
        return []

    def all_but(self, place: int) -> Iterator[list[Family]]:
        """Yields the counts of every other worker, and of those that have died."""
        for other in range(self.places + 1):
            if other != place and (families := self.read(other)):
                yield families

    def occupied(self) -> int:
        """Returns the number of workers that share their counts."""
        heads = (_HEAD.unpack_from(self._memory, place * PLACE_BYTES) for place in range(1, self.places + 1))
        return sum(size > 0 for _, size, _ in heads)

    def retire(self, place: int) -> None:
        """Adds the counts of the worker at the place to those of dead workers, and frees the place.

        Only the parent process may call this.
        """
        left = [family for family in self.read(place) if family.kind != "gauge"]
        self.write(place, [])
        self.write(_OF_ALL, merged([self.read(_OF_ALL), left]))


@dataclass(frozen=True, slots=True)
class MetricsPlace:
    """The place of one worker."""

    board: MetricsBoard
    number: int


def merged(counted: Iterable[list[Family]]) -> list[Family]:
    """Returns the sums of several workers' counts, and the maximum of sizes that all of them see."""
    families: dict[str, Family] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for of_one in counted:
        for family in of_one:
            families.setdefault(family.name, family)
            sums = values.setdefault(family.name, {})
            for name, labels, value in family.samples:
                key = name, tuple(labels.items())
                sums[key] = _together(name, sums[key], value) if key in sums else value
    return [
        Family(name, one.documentation, one.kind, [(key, dict(labels), v) for (key, labels), v in values[name].items()])
        for name, one in families.items()
    ]


def _together(name: str, one: float, other: float) -> float:
    if name.endswith("_created"):
        return min(one, other)
    return max(one, other) if name.startswith(_SEEN_BY_ALL) and not name.endswith("_total") else one + other
