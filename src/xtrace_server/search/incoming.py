"""Rows that are still being read: a task reads them from the database, and searches use those that have arrived.

The task does not wait for clients, so its transaction ends however slowly an answer is read.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

from xtrace_server.search.interface import AnySegment


class Incoming:
    """Segments by ascending key, as of one revision of their knowledge base.

    `shared` keeps them; otherwise each is dropped as soon as the one search that follows has passed it. Reading stops
    once no search follows any more.
    """

    def __init__(
        self, revision: int, segments: AsyncIterator[AnySegment], transaction: AsyncExitStack, *, shared: bool
    ) -> None:
        self.revision = revision
        self._segments: list[AnySegment | None] = []
        self._shared = shared
        self._followers = 1
        self._news = asyncio.Event()
        self.release: Callable[[], None] = lambda: None
        """Called once no search follows any more."""
        self.task = asyncio.create_task(self._read(segments, transaction))

    async def _read(self, segments: AsyncIterator[AnySegment], transaction: AsyncExitStack) -> tuple[AnySegment, ...]:
        try:
            async with transaction:
                async for segment in segments:
                    self._segments.append(segment)
                    self._tell()
        finally:
            # After the task is done, which it is not yet.
            asyncio.get_running_loop().call_soon(self._tell)
        return tuple([segment for segment in self._segments if segment is not None])

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    @property
    def wanted(self) -> bool:
        """Whether a search follows; once none does, none can join any more."""
        return self._followers > 0

    def join(self) -> None:
        """Adds a search to the one that started the reading."""
        self._followers += 1

    def leave(self) -> None:
        """Removes a search."""
        self._followers -= 1
        if not self.wanted:
            self.task.cancel()
            self.release()

    async def follow(self) -> AsyncIterator[AnySegment | None]:
        """Yields every segment, and None where the next has to be waited for. Raises what the reading raised."""
        position = 0
        while True:
            news, ended = self._news, self.task.done()
            while position < len(self._segments):
                yield self._segments[position]
                if not self._shared:
                    self._segments[position] = None
                position += 1
            if ended:
                self.task.result()
                return
            if news is self._news:
                yield None
                await news.wait()
