"""Counts that servers on several hosts share, in a Redis; no other module uses Redis.

Redis stores hashes and counts, which expire with their window. All windows use its clock.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final

from limits import RateLimitItem, RateLimitItemPerSecond
from limits.aio.storage import RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from xtrace_server.metrics import Metrics

TIMEOUT_S: Final = 1.0
"""The timeout of a request to Redis."""
PAUSE_S: Final = 5.0
"""The pause after Redis did not answer."""
_CONNECTIONS: Final = 16

_log = logging.getLogger("xtrace")


class StoreUnreachable(Exception):
    """Redis does not answer; the message says how it failed, without its address."""


class RateStore:
    """The counts. Every method raises `StoreUnreachable`; after a failure, for a while without a new attempt."""

    def __init__(self, url: str, metrics: Metrics) -> None:
        """Connects at the first call."""
        import redis.asyncio

        pool = redis.asyncio.BlockingConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS,
            timeout=TIMEOUT_S,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
        )
        options: dict[str, Any] = {"connection_pool": pool}
        # The pool has the address, which the library would put into its messages.
        self._storage = RedisStorage("redis://", implementation="redispy", key_prefix="xtrace", **options)
        self._windows = SlidingWindowCounterRateLimiter(self._storage)
        self._faults: tuple[type[Exception], ...] = (redis.asyncio.RedisError, OSError, TimeoutError)
        self._pool = pool
        self._metrics = metrics
        self._asked_again_at = 0.0
        self._is_down = False

    async def hit(self, key: str, amount: int, seconds: int, *, count: bool = True) -> float:
        """As `SharedRates.hit`."""
        item, name = _item(amount, seconds), _digest(key)
        async with self._asking():
            if await (self._windows.hit(item, name) if count else self._windows.test(item, name)):
                return 0.0
            stats = await self._windows.get_window_stats(item, name)
        return max(stats.reset_time - time.time(), 0.001)

    async def add(self, key: str, more: int, seconds: int) -> int:
        """Adds to a counter, which expires this many seconds after the first addition, and returns it."""
        async with self._asking():
            return await self._storage.incr(_digest(key), seconds, more)

    async def check(self) -> None:
        """Returns if Redis answers."""
        async with self._asking():
            await self._storage.incr(_digest("check"), 1)

    async def close(self) -> None:
        await self._pool.disconnect()

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[None]:
        if self._is_down and time.monotonic() < self._asked_again_at:
            raise StoreUnreachable("it did not answer a moment ago")
        try:
            async with asyncio.timeout(2 * TIMEOUT_S):
                yield
        except self._faults as fault:
            self._metrics.rate_store_errors.inc()
            self._asked_again_at = time.monotonic() + PAUSE_S
            if not self._is_down:
                _log.error("the rate store cannot be reached (%s): each server counts for itself", _name(fault))
            self._is_down = True
            raise StoreUnreachable(_name(fault)) from None
        if self._is_down:
            _log.warning("the rate store answers again")
        self._is_down = False


def _name(fault: Exception) -> str:
    """Returns only the kind of the fault, because its text may contain the address with its password."""
    return type(fault).__name__


def _digest(key: str) -> str:
    return sha256(key.encode()).hexdigest()[:32]


@lru_cache(maxsize=64)
def _item(amount: int, seconds: int) -> RateLimitItem:
    return RateLimitItemPerSecond(amount, seconds)
