"""The scanner of a server that computes by itself, in threads that share the engine's memory."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from xtrace_server.search.interface import Computation, Finish, Selection

_T = TypeVar("_T")


class LocalScanner:
    """Scans in threads of this process; the arithmetic releases the interpreter's lock."""

    remote: Final = None

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="xtrace-search")

    async def start(self) -> None:
        """Does nothing: threads start with the first search."""

    async def scan(
        self, selections: AsyncIterator[Selection | None], computation: Computation, finish: Finish[_T]
    ) -> AsyncGenerator[_T, None]:
        """Computes one selection ahead: while one is being sent to the client, a thread computes the next."""

        def work(selection: Selection) -> _T:
            return finish(selection, computation(selection.rows), selection.nonces)

        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[_T] | None = None
        try:
            async for selection in selections:
                following = None if selection is None else loop.run_in_executor(self._pool, work, selection)
                if waiting is not None:
                    done, waiting = await waiting, following
                    yield done
                waiting = following
            if waiting is not None:
                yield await waiting
        finally:
            if waiting is not None:
                waiting.cancel()

    async def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
