"""How long a request may still take, and from when on it can no longer be cancelled.

A cancelled request has changed nothing. So `hold_deadline` is called before a transaction commits: a commit that has
begun cannot be undone, and the answer must not claim otherwise.

A request that only reads ends when its client disconnects. One that may write continues without its client.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar


class Deadline:
    """The deadline of one request."""

    def __init__(self, timeout: asyncio.Timeout) -> None:
        self._timeout = timeout
        self._only_reads = False
        self.was_left = False
        """Whether it was moved to the moment at which the client disconnected."""

    def expired(self) -> bool:
        """Returns whether it has passed."""
        return self._timeout.expired()

    def restart(self, seconds: float) -> None:
        """Restarts the seconds from now, unless it is held or has passed."""
        if self._timeout.when() is not None and not self._timeout.expired():
            self._timeout.reschedule(asyncio.get_running_loop().time() + seconds)

    def hold(self) -> None:
        """From now on, the request runs to its end, however long it takes."""
        if not self._timeout.expired():
            self._timeout.reschedule(None)

    def only_read(self) -> None:
        """From now on, the request ends when its client disconnects."""
        self._only_reads = True

    def leave(self) -> None:
        """The client has disconnected: ends the request if it only reads and the deadline is neither held nor
        passed."""
        if self._only_reads and self._timeout.when() is not None and not self._timeout.expired():
            self.was_left = True
            self.restart(0)


_current: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


@asynccontextmanager
async def deadline(seconds: float) -> AsyncIterator[Deadline]:
    """Raises `TimeoutError` in the block `seconds` after the last `restart`."""
    async with asyncio.timeout(seconds) as timeout:
        made = Deadline(timeout)
        token = _current.set(made)
        try:
            yield made
        finally:
            _current.reset(token)


def hold_deadline() -> None:
    """From now on, the current request runs to its end, however long it takes."""
    if (current := _current.get()) is not None:
        current.hold()


def only_read() -> None:
    """From now on, the current request ends when its client disconnects."""
    if (current := _current.get()) is not None:
        current.only_read()
