"""Computes encrypted searches: finds the candidates, then multiplies their rows with the query, block by
block.

`Engine.prepare` does everything that needs the database, in one transaction that is closed when it returns:
the revision check of what is in memory, the filter, the reading of rows that are not. `Search.blocks` then
computes in threads, off the event loop, from arrays that nobody changes.
"""

import asyncio
import weakref
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from sqlalchemy.ext.asyncio import AsyncConnection

from xtrace_core.evaluation import Evaluation
from xtrace_core.metadata_filter import EVERY_CHUNK, Filter
from xtrace_server.metrics import Metrics
from xtrace_server.search.answers import AnswerForm
from xtrace_server.search.spool import Held, Spool
from xtrace_server.search.vector_set import Segment, VectorSet, gathered, vector_set
from xtrace_server.settings import Settings
from xtrace_server.storage import chunks, vectors
from xtrace_server.storage.contexts import Binding
from xtrace_server.storage.knowledge_bases import KnowledgeBase

BLOCK_BYTES = 256 * 1024
"""How many bytes of ciphertexts one step of a scan gives."""
_FEW_KEYS = 1000
"""So many rows are picked from the cache where we are; more in a thread."""
_SPARSE = 4
"""A filter that leaves less than one in so many rows is answered without loading the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """Which rows of a binding a search is over; `first_pk` and `last_pk` bound the keys, both included."""

    kb: KnowledgeBase
    binding: Binding
    filter_: Filter
    first_pk: int
    last_pk: int

    @property
    def bounded(self) -> bool:
        """Whether only a part of the keys is wanted."""
        return self.first_pk > self.kb.first_pk or self.last_pk < self.kb.last_pk


class Search:
    """A prepared search with one query or several: `count` rows, and the blocks of the answer, which come once."""

    def __init__(
        self,
        evaluation: Evaluation,
        queries: Sequence[Sequence[bytes]],
        segments: Sequence[Segment],
        pool: ThreadPoolExecutor,
    ) -> None:
        self._evaluation = evaluation
        self._queries = queries
        self._segments = deque(segments)
        self._pool = pool
        self.count = sum([len(segment.pks) for segment in segments])

    async def blocks(self, form: AnswerForm) -> AsyncIterator[bytes]:
        """The rows of the answer in that form, without head and end, in pieces. Closing it stops the scan."""
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[bytes] | None = None
        try:
            # The next block is computed while this one is on its way to the client.
            for part in self._parts():
                following = loop.run_in_executor(self._pool, self._evaluate, part, form)
                if waiting is not None:
                    done, waiting = await waiting, following
                    yield done
                waiting = following
            if waiting is not None:
                yield await waiting
        finally:
            if waiting is not None:
                waiting.cancel()

    def _parts(self) -> Iterator[Segment]:
        while self._segments:
            # Gone from here once it is scanned: rows that wait in a file leave the memory again.
            segment = self._segments.popleft()
            step = max(BLOCK_BYTES // (segment.rows.shape[1] * len(self._queries)), 1)
            for i in range(0, len(segment.pks), step):
                part = slice(i, i + step)
                yield Segment(segment.pks[part], segment.rows[part], segment.nonces[part])

    def _evaluate(self, part: Segment, form: AnswerForm) -> bytes:
        rows = np.ascontiguousarray(part.rows)
        # One pass over the rows: a block stays in the processor's cache while the queries take their turns.
        answers = [self._evaluation.evaluate(rows, query) for query in self._queries]
        computed = answers[0] if len(answers) == 1 else np.concatenate(answers, axis=1)
        return form.block(Segment(part.pks, computed, part.nonces))


class Engine:
    """Prepares searches, and keeps the rows of the bindings last searched within a budget of memory."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._budget = settings.cache_bytes
        self._spool = Spool(settings.data, settings.search_memory_bytes)
        self._metrics = metrics
        self._cache: OrderedDict[int, VectorSet] = OrderedDict()
        self._locks: dict[int, asyncio.Lock] = {}
        self._pool = ThreadPoolExecutor(settings.search_threads, thread_name_prefix="xtrace-search")

    async def prepare(
        self,
        connection: AsyncConnection,
        evaluation: Evaluation,
        queries: Sequence[Sequence[bytes]],
        wanted: Candidates | None,
    ) -> Search:
        """The search over the candidates; None for a context under which nothing can be stored yet.

        `wanted` was read in the same transaction. Raises `InvalidCiphertext`.
        """
        row_bytes = None if wanted is None else wanted.binding.row_bytes
        for query in queries:
            if len(evaluation.row(query)) != row_bytes and row_bytes is not None:
                # Without rows to be multiplied with, and so with nothing to be mistaken for.
                evaluation.evaluate(np.empty((0, row_bytes), dtype=np.uint8), query)
        if wanted is None or row_bytes is None:
            return Search(evaluation, queries, [], self._pool)
        held = await self._segments(connection, wanted, row_bytes)
        search = Search(evaluation, queries, held.segments, self._pool)
        # However the search ends, what it held is free when nobody can ask it for more.
        weakref.finalize(search, held.release)
        self._metrics.candidates.inc(search.count)
        return search

    @property
    def held_bytes(self) -> int:
        """How much memory the cache holds."""
        return sum([kept.nbytes for kept in self._cache.values()])

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._cache.clear()

    async def _segments(self, connection: AsyncConnection, wanted: Candidates, row_bytes: int) -> Held:
        pks: list[int] | None = None
        fits = wanted.kb.number_of_vectors * row_bytes <= self._budget
        if wanted.filter_ != EVERY_CHUNK:
            key_range = (wanted.first_pk, wanted.last_pk)
            if wanted.binding.pk not in self._cache:
                few = await vectors.read_matching(connection, wanted.binding, wanted.filter_, key_range)
                if few is not None and (not fits or len(few.pks) * _SPARSE < wanted.kb.number_of_vectors):
                    return await self._hold(_only(few), len(few.pks), row_bytes)
            pks = await chunks.matching_pks(connection, wanted.binding, wanted.filter_, key_range)
        if wanted.binding.pk not in self._cache:
            if pks is None and wanted.bounded:
                # How many there are at most is known without asking.
                most = min(wanted.last_pk, wanted.kb.first_pk + wanted.kb.next_chunk_id - 1) - wanted.first_pk + 1
                if not fits or most * _SPARSE < wanted.kb.number_of_vectors:
                    pks = await chunks.matching_pks(
                        connection, wanted.binding, EVERY_CHUNK, (wanted.first_pk, wanted.last_pk)
                    )
            if pks is not None and (not fits or len(pks) * _SPARSE < wanted.kb.number_of_vectors):
                return await self._uncached(connection, wanted, pks, row_bytes)
            if not fits:
                return await self._uncached(connection, wanted, None, row_bytes)
        self._metrics.searches.labels("memory" if wanted.binding.pk in self._cache else "loaded").inc()
        current = await self._current(connection, wanted, row_bytes)
        if pks is None:
            segments = current.between(wanted.first_pk, wanted.last_pk)
        elif len(pks) <= _FEW_KEYS:
            segments = current.only(pks)
        else:
            segments = await asyncio.to_thread(current.only, pks)
        return Held(segments, lambda: None)

    async def _uncached(
        self, connection: AsyncConnection, wanted: Candidates, pks: Sequence[int] | None, row_bytes: int
    ) -> Held:
        """The rows straight from the database: those with the keys, or all."""
        if pks is None:
            blocks = vectors.read_all(connection, wanted.binding)
            return await self._hold(blocks, wanted.kb.number_of_vectors, row_bytes)
        return await self._hold(vectors.read_some(connection, pks), len(pks), row_bytes)

    async def _hold(self, blocks: AsyncIterator[vectors.VectorBlock], count: int, row_bytes: int) -> Held:
        self._metrics.searches.labels("database").inc()
        return await self._spool.hold(blocks, count, row_bytes)

    async def _current(self, connection: AsyncConnection, wanted: Candidates, row_bytes: int) -> VectorSet:
        """The binding's rows as of the transaction, from memory or brought up to date."""
        binding, kb = wanted.binding, wanted.kb
        # One search loads, the others wait for it.
        lock = self._locks.setdefault(binding.pk, asyncio.Lock())
        async with lock:
            cached = self._cache.get(binding.pk)
            if cached is not None and cached.segments and cached.segments[0].rows.shape[1] != row_bytes:
                cached = None  # everything was deleted, and the next first index had another length
            if cached is None:
                current = await gathered(kb.revision, vectors.read_all(connection, binding), row_bytes)
            elif cached.revision < kb.revision:
                current = await self._refreshed(connection, wanted, cached, row_bytes)
            else:
                current = cached  # as of this transaction, or of a later one that another search has seen
            self._keep(binding.pk, current)
            return current

    async def _refreshed(
        self, connection: AsyncConnection, wanted: Candidates, cached: VectorSet, row_bytes: int
    ) -> VectorSet:
        binding, kb = wanted.binding, wanted.kb
        blocks = [block async for block in vectors.read_newer(connection, binding, cached.revision)]
        removed = kb.removal_revision > cached.revision
        present = await vectors.read_pks(connection, binding) if removed else None

        def refresh() -> VectorSet:
            base = cached if present is None else cached.kept(present)
            return base.merged(vector_set(kb.revision, blocks, row_bytes))

        return await asyncio.to_thread(refresh)

    def _keep(self, binding_pk: int, current: VectorSet) -> None:
        self._cache[binding_pk] = current
        self._cache.move_to_end(binding_pk)
        while self._cache and self.held_bytes > self._budget:
            evicted, _ = self._cache.popitem(last=False)
            self._metrics.cache_evictions.inc()
            if evicted in self._locks and not self._locks[evicted].locked():
                del self._locks[evicted]


async def _only(block: vectors.VectorBlock) -> AsyncIterator[vectors.VectorBlock]:
    yield block
