"""How often a key may be used: a moving window for each key, in the memory of this process, or of all workers.

Servers count for themselves. A wrong key is not counted: it costs one look-up by a hash, while remembering
every wrong key would let an attacker fill the memory.
"""

import math
import time

from limits import RateLimitItem, parse_many
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter

from xtrace_server.errors import RateLimited
from xtrace_server.limits.shared_rates import SharedRates


class RateLimit:
    """Raises `RateLimited` for a key that is used too often."""

    def __init__(self, rate: str | None, shared: SharedRates | None = None) -> None:
        """`rate` is a setting such as `50/second; 1000/minute`; None allows everything. `shared` is of workers."""
        self._shared = shared
        self._rates = parse_many(rate) if rate else []
        self._windows = MovingWindowRateLimiter(MemoryStorage())
        self._clock = _clock()

    async def count(self, key_hash: str) -> None:
        """Counts one use of the key."""
        if self._rates and self._shared is None:
            self._forget_the_future()
        for rate in self._rates:
            if missing_s := await self._hit(rate, key_hash):
                wait_s = max(1, math.ceil(missing_s))
                raise RateLimited(f"the key is used more often than {rate} (rate_limit): wait {wait_s} s", wait_s)

    async def _hit(self, rate: RateLimitItem, key_hash: str) -> float:
        """Returns 0, or how many seconds are missing."""
        if self._shared is not None:
            return self._shared.hit(key_hash, rate.amount, rate.get_expiry())
        if await self._windows.hit(rate, key_hash):
            return 0.0
        return max((await self._windows.get_window_stats(rate, key_hash)).reset_time - time.time(), 0.001)

    def _forget_the_future(self) -> None:
        """Begins anew if the clock was set back: uses of a later time would count until it comes again."""
        before, self._clock = self._clock, _clock()
        if self._clock < before - 1:
            self._windows = MovingWindowRateLimiter(MemoryStorage())


def _clock() -> float:
    """How far the clock is ahead of the monotonic one, in seconds."""
    return time.time() - time.monotonic()
