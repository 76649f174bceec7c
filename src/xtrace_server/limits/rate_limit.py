"""How often a key may be used: a moving window for each key, in the memory of this process.

Each server process counts for itself. A wrong key is not counted: it costs one look-up by a hash, while remembering
every wrong key would let an attacker fill the memory.
"""

import math
import time

from limits import parse_many
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter

from xtrace_server.errors import RateLimited


class RateLimit:
    """Raises `RateLimited` for a key that is used too often."""

    def __init__(self, rate: str | None) -> None:
        """`rate` is a setting such as `50/second; 1000/minute`; None allows everything."""
        self._rates = parse_many(rate) if rate else []
        self._windows = MovingWindowRateLimiter(MemoryStorage())
        self._clock = _clock()

    async def count(self, key_hash: str) -> None:
        """Counts one use of the key."""
        if self._rates:
            self._forget_the_future()
        for rate in self._rates:
            if not await self._windows.hit(rate, key_hash):
                reset_at = (await self._windows.get_window_stats(rate, key_hash)).reset_time
                wait_s = max(1, math.ceil(reset_at - time.time()))
                raise RateLimited(f"the key is used more often than {rate} (rate_limit): wait {wait_s} s", wait_s)

    def _forget_the_future(self) -> None:
        """Begins anew if the clock was set back: uses of a later time would count until it comes again."""
        before, self._clock = self._clock, _clock()
        if self._clock < before - 1:
            self._windows = MovingWindowRateLimiter(MemoryStorage())


def _clock() -> float:
    """How far the clock is ahead of the monotonic one, in seconds."""
    return time.time() - time.monotonic()
