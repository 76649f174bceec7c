"""How often keys are used at one server, by all its workers: a sliding window for each, in memory that they share.

The window is the part of the last fixed window that it still covers, taken as evenly used, and the present one: two
counts a key, whatever the rate. The clock is the system's monotonic one, which all processes of a host have in common.
"""

import mmap
import os
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from typing import Final

with suppress(ModuleNotFoundError):  # Windows forks no workers, and so needs no rates that they share
    import fcntl

BUCKETS: Final = 4096
"""A key has its place in one of these."""
PLACES: Final = 8
"""Keys that a bucket has room for; of more, the one that was used longest ago is forgotten."""

_PLACE: Final = struct.Struct("<16sQdII")  # the hash, the window, when it no longer matters, its count, the last one's
_BUCKET_BYTES: Final = PLACES * _PLACE.size


class SharedRates:
    """Made before the workers are, and inherited by them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._memory = mmap.mmap(-1, BUCKETS * _BUCKET_BYTES)
        # For locks alone, which end with the process that holds them; nothing is written to it.
        with tempfile.TemporaryFile() as file:
            self._locks = os.dup(file.fileno())

    def hit(self, key: str, amount: int, seconds: int, *, count: bool = True) -> float:
        """Counts a use of a key that is allowed `amount` in so many seconds, or with `count=False` only looks.

        Returns 0, or after how many seconds the next use is allowed where this one is not, and is not counted.
        """
        digest = sha256(f"{key} {amount} {seconds}".encode()).digest()[:16]
        bucket = int.from_bytes(digest[:4]) % BUCKETS
        with self._locked(bucket):
            now = self._clock()
            window = int(now // seconds)
            passed = now - window * seconds
            start, counted, before = self._find(bucket, digest, window, now)
            if counted + 1 + before * (1 - passed / seconds) > amount:
                return _wait_s(amount, seconds, passed, counted, before)
            if count:
                _PLACE.pack_into(self._memory, start, digest, window, (window + 2) * seconds, counted + 1, before)
        return 0.0

    def _find(self, bucket: int, digest: bytes, window: int, now: float) -> tuple[int, int, int]:
        """Where the key's counts are, or are to be; the count of this window and of the last."""
        starts = range(bucket * _BUCKET_BYTES, (bucket + 1) * _BUCKET_BYTES, _PLACE.size)
        ends: list[tuple[float, int]] = []
        for start in starts:
            found, of_window, until, count, before = _PLACE.unpack_from(self._memory, start)
            if found == digest and until > now:
                if of_window == window:
                    return start, count, before
                return start, 0, count if of_window == window - 1 else 0
            ends.append((until, start))
        return min(ends)[1], 0, 0

    @contextmanager
    def _locked(self, bucket: int) -> Iterator[None]:
        fcntl.lockf(self._locks, fcntl.LOCK_EX, 1, bucket)
        try:
            yield
        finally:
            fcntl.lockf(self._locks, fcntl.LOCK_UN, 1, bucket)


def _wait_s(amount: int, seconds: int, passed: float, count: int, before: int) -> float:
    if count < amount:  # as soon as the last window weighs little enough
        return seconds * (1 - (amount - 1 - count) / before) - passed
    return seconds - passed + seconds * (1 - (amount - 1) / count)
