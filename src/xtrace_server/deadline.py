"""How long a request may still take, and the moment from which on it is not given up any more.

A request that is given up has changed nothing. So whoever commits a transaction calls `hold_deadline` first: a commit
that is under way cannot be called back, and its answer must not say that it was.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar

_current: ContextVar[asyncio.Timeout | None] = ContextVar("deadline", default=None)


@asynccontextmanager
async def deadline(seconds: float) -> AsyncIterator[asyncio.Timeout]:
    """Raises `TimeoutError` in the block when the seconds are over, counted from its last `restart_deadline`."""
    async with asyncio.timeout(seconds) as timeout:
        token = _current.set(timeout)
        try:
            yield timeout
        finally:
            _current.reset(token)


def restart_deadline(timeout: asyncio.Timeout, seconds: float) -> None:
    """Counts the seconds from now on, unless the deadline is held or past."""
    if timeout.when() is not None and not timeout.expired():
        timeout.reschedule(asyncio.get_running_loop().time() + seconds)


def hold_deadline() -> None:
    """From here on the request is finished, however long it takes."""
    timeout = _current.get()
    if timeout is not None and not timeout.expired():
        timeout.reschedule(None)
