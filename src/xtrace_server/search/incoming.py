"""Rows that a task is still reading from the database; searches use those that have arrived.

The task does not wait for clients, so its transaction ends, however slowly an answer is read.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

from xtrace_server.search.interface import AnySegment


class Incoming:
    """Segments by ascending key, as of one revision of their knowledge base.

    `shared` keeps them; otherwise, each is dropped as soon as the only search has used it. Reading stops when no search
    needs it any longer.
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
        """Called when no search needs it any longer."""
        self.task = asyncio.create_task(self._read(segments, transaction))

    async def _read(self, segments: AsyncIterator[AnySegment], transaction: AsyncExitStack) -> tuple[AnySegment, ...]:
        try:
            async with transaction:
                async for segment in segments:
                    self._segments.append(segment)
                    self._tell()
        finally:
            # Runs when the task is done, which it is not yet.
            asyncio.get_running_loop().call_soon(self._tell)
        return tuple([segment for segment in self._segments if segment is not None])

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    @property
    def wanted(self) -> bool:
        """Whether a search uses it; once none does, no other can join."""
        return self._followers > 0

    def join(self) -> None:
        """Adds another search."""
        self._followers += 1

    def leave(self) -> None:
        """Removes a search."""
        self._followers -= 1
        if not self.wanted:
            self.task.cancel()
            self.release()

    async def follow(self) -> AsyncIterator[AnySegment | None]:
        """Yields every segment, and None when the next one has to be awaited. Raises what the reading raised."""
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
