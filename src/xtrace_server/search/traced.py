"""Spans for the stages of a search, used only if tracing is enabled."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

from xtrace_core.schemes.interface import Query
from xtrace_server.search.engine import FindTarget, SearchEngine
from xtrace_server.search.interface import Computation, Finish, Remote, Scanner, Selection
from xtrace_server.search.running import Search
from xtrace_server.storage.chunks import Reserve
from xtrace_server.traces import Traces

_T = TypeVar("_T")


class TracedEngine(SearchEngine):
    """A search engine that records a span for the preparation of each search: look-up, filter, choice of rows."""

    def __init__(self, traces: Traces, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._traces = traces

    async def search(
        self,
        organisation_id: str,
        find: FindTarget,
        queries: Sequence[Query],
        reserve: Reserve,
        *,
        filtered: bool = False,
    ) -> Search:
        with self._traces.span("search prepare"):
            return await super().search(organisation_id, find, queries, reserve, filtered=filtered)


class TracedScanner:
    """A scanner that records a span for each scan, which lasts until the client has read the answer."""

    def __init__(self, scanner: Scanner, traces: Traces) -> None:
        self._scanner = scanner
        self._traces = traces

    @property
    def remote(self) -> Remote | None:
        return self._scanner.remote

    async def start(self) -> None:
        await self._scanner.start()

    async def scan(
        self, selections: AsyncIterator[Selection | None], computation: Computation, finish: Finish[_T]
    ) -> AsyncGenerator[_T, None]:
        with self._traces.span("search scan") as span:
            rows = 0

            async def counted() -> AsyncIterator[Selection | None]:
                nonlocal rows
                async for selection in selections:
                    rows += 0 if selection is None else len(selection)
                    yield selection

            try:
                async with aclosing(self._scanner.scan(counted(), computation, finish)) as results:
                    async for result in results:
                        yield result
            finally:
                span.set_attribute("xtrace.rows", rows)

    async def close(self) -> None:
        await self._scanner.close()
