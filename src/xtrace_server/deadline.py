"""How long a request may still take, and the moment from which on it can no longer be cancelled.

A request that is cancelled has changed nothing. So `hold_deadline` is called before a transaction commits: a commit
that has begun cannot be undone, and the answer must not say that it was.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar

_current: ContextVar[asyncio.Timeout | None] = ContextVar("deadline", default=None)


@asynccontextmanager
async def deadline(seconds: float) -> AsyncIterator[asyncio.Timeout]:
    """Raises `TimeoutError` in the block after `seconds`, counted from the last `restart_deadline`."""
    async with asyncio.timeout(seconds) as timeout:
        token = _current.set(timeout)
        try:
            yield timeout
        finally:
            _current.reset(token)


def restart_deadline(timeout: asyncio.Timeout, seconds: float) -> None:
    """Counts the seconds from now, unless the deadline is held or has passed."""
    if timeout.when() is not None and not timeout.expired():
        timeout.reschedule(asyncio.get_running_loop().time() + seconds)


def hold_deadline() -> None:
    """From here on the request runs to its end, however long it takes."""
    timeout = _current.get()
    if timeout is not None and not timeout.expired():
        timeout.reschedule(None)
