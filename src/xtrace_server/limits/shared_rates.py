"""Counts how often keys are used at all workers of one server: a sliding window for each, in shared memory.

The sliding window consists of the current fixed window and the part of the last one that it still covers, assuming even
use: two counts per key, whatever the rate. All processes of a host share the monotonic clock.
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

with suppress(ModuleNotFoundError):  # Windows does not fork workers, so it needs no shared rates
    import fcntl

BUCKETS: Final = 4096
"""The number of buckets; each key belongs to one."""
PLACES: Final = 8
"""The number of keys in a bucket; beyond it, the least recently used one is dropped."""

_PLACE: Final = struct.Struct("<16sQdII")  # the hash, the window, when it no longer matters, its count, the last one's
_BUCKET_BYTES: Final = PLACES * _PLACE.size


class SharedRates:
    """Created before the workers, which inherit it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._memory = mmap.mmap(-1, BUCKETS * _BUCKET_BYTES)
        # Only for locks, which end with the process that holds them; nothing is written to it.
        with tempfile.TemporaryFile() as file:
            self._locks = os.dup(file.fileno())

    def hit(self, key: str, amount: int, seconds: int, *, count: bool = True) -> float:
        """Counts a use of a key, which is allowed `amount` times in this many seconds; `count=False` only checks.

        Returns 0 if it is allowed; otherwise does not count it, and returns the seconds until the next use is.
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
        """Returns the place of the key's counts, and its counts in this window and the last."""
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
