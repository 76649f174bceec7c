"""Computes encrypted searches: finds the candidates, then multiplies their rows with the query, block by
block.

`Engine.prepare` does what needs the database in one transaction: the revision check of what is in memory, the filter.
Rows that are not in memory are read by a task, which takes the transaction over, while `Search.blocks` computes with
those that have come already; in threads, off the event loop, from arrays that nobody changes.
"""

import asyncio
import math
import weakref
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

import numpy as np
from sqlalchemy.ext.asyncio import AsyncConnection

from xtrace_core.metadata_filter import EVERY_CHUNK, Filter
from xtrace_core.schemes.interface import Evaluation
from xtrace_server.metrics import Metrics
from xtrace_server.search.answers import AnswerForm
from xtrace_server.search.incoming import Incoming
from xtrace_server.search.spool import Spool
from xtrace_server.search.vector_set import Segment, VectorSet, segment_of, segments_of, vector_set
from xtrace_server.settings import Settings
from xtrace_server.storage import chunks, contexts, vectors
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
    def pk_range(self) -> tuple[int, int]:
        """The keys, both ends included."""
        return self.first_pk, self.last_pk

    @property
    def bounded(self) -> bool:
        """Whether only a part of the keys is wanted."""
        return self.first_pk > self.kb.first_pk or self.last_pk < self.kb.last_pk


@dataclass(frozen=True, slots=True)
class Found:
    """How many candidates a search has, their segments (None where the next must be waited for), and what gives back
    what they hold; it is called once."""

    count: int
    segments: AsyncIterator[Segment | None]
    release: Callable[[], None] = lambda: None


class Search:
    """A prepared search with one query or several: `count` rows, and the blocks of the answer, which come once."""

    def __init__(
        self,
        evaluation: Evaluation,
        queries: Sequence[Sequence[bytes]],
        found: Found,
        pool: ThreadPoolExecutor,
        metrics: Metrics,
    ) -> None:
        self.count = found.count
        self.answer_shape = evaluation.answer_shape(queries)
        """How many ciphertexts answer the queries for each row, and the bytes of each."""
        self._evaluation = evaluation
        self._queries = queries
        self._segments = found.segments
        self._pool = pool
        self._metrics = metrics
        # However the search ends, what it held is free when nobody can ask it for more.
        self._release = weakref.finalize(self, found.release)
        self._release.atexit = False

    async def blocks(self, form: AnswerForm) -> AsyncIterator[bytes]:
        """The rows of the answer in that form, without head and end, in pieces. Closing it stops the scan."""
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[bytes] | None = None
        try:
            # The next block is computed while this one is on its way to the client.
            async for part in self._parts():
                following = None if part is None else loop.run_in_executor(self._pool, self._evaluate, part, form)
                if waiting is not None:
                    done, waiting = await waiting, following
                    yield done
                waiting = following
            if waiting is not None:
                yield await waiting
        finally:
            if waiting is not None:
                waiting.cancel()
            self._release()

    async def _parts(self) -> AsyncIterator[Segment | None]:
        async for segment in self._segments:
            if segment is None:
                yield None
                continue
            step = max(BLOCK_BYTES // math.prod(self.answer_shape), 1)
            for i in range(0, len(segment.pks), step):
                part = slice(i, i + step)
                yield Segment(segment.pks[part], segment.rows[part], segment.nonces[part])

    def _evaluate(self, part: Segment, form: AnswerForm) -> bytes:
        rows = np.ascontiguousarray(part.rows)
        self._metrics.candidates.inc(len(rows))
        answers = self._evaluation.evaluate(rows, self._queries)
        return form.block(Segment(part.pks, answers, part.nonces))


class Engine:
    """Prepares searches, and keeps the rows of the bindings last searched within a budget of memory."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._budget = settings.cache_bytes
        self._spool = Spool(settings.data, settings.search_memory_bytes)
        self._metrics = metrics
        self._cache: OrderedDict[int, VectorSet] = OrderedDict()
        self._coming: dict[int, Incoming] = {}
        """What is on its way into the cache."""
        self._tasks: set[asyncio.Task[tuple[Segment, ...]]] = set()
        self._locks: dict[int, asyncio.Lock] = {}
        self._pool = ThreadPoolExecutor(settings.search_threads, thread_name_prefix="xtrace-search")

    async def prepare(
        self,
        connection: AsyncConnection,
        transaction: AsyncExitStack,
        evaluation: Evaluation,
        queries: Sequence[Sequence[bytes]],
        wanted: Candidates | None,
    ) -> Search:
        """The search over the candidates; None for a context under which nothing can be stored yet.

        `wanted` was read through the connection, in the same transaction, which leaving `transaction` ends; where rows
        have to be read, that is taken over. Raises `InvalidCiphertext`.
        """
        row_bytes = None if wanted is None else wanted.binding.row_bytes
        for query in queries:
            evaluation.check_query(query, row_bytes)
        if wanted is None or row_bytes is None:
            found = Found(0, _each([]))
        else:
            found = await self._found(connection, transaction, wanted, row_bytes)
        return Search(evaluation, queries, found, self._pool, self._metrics)

    @property
    def held_bytes(self) -> int:
        """How much memory the cache holds."""
        return sum([kept.nbytes for kept in self._cache.values()])

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._pool.shutdown(cancel_futures=True)
        self._cache.clear()

    async def _found(
        self, connection: AsyncConnection, transaction: AsyncExitStack, wanted: Candidates, row_bytes: int
    ) -> Found:
        pks: list[int] | None = None
        size = wanted.kb.number_of_vectors
        fits = size * row_bytes <= self._budget
        in_memory = wanted.binding.pk in self._cache or wanted.binding.pk in self._coming
        if wanted.filter_ != EVERY_CHUNK:
            if not in_memory:
                few = await vectors.read_matching(connection, wanted.binding, wanted.filter_, wanted.pk_range)
                if few is not None and (not fits or len(few.pks) * _SPARSE < size):
                    self._metrics.searches.labels("database").inc()
                    return Found(len(few.pks), _each([segment_of(few, row_bytes)] if few.pks else []))
            pks = await chunks.matching_pks(connection, wanted.binding, wanted.filter_, wanted.pk_range)
        elif wanted.bounded and not in_memory:
            # How many there are at most is known without asking.
            most = min(wanted.last_pk, wanted.kb.first_pk + wanted.kb.next_chunk_id - 1) - wanted.first_pk + 1
            if not fits or most * _SPARSE < size:
                pks = await chunks.matching_pks(connection, wanted.binding, EVERY_CHUNK, wanted.pk_range)
        if not in_memory and (not fits or (pks is not None and len(pks) * _SPARSE < size)):
            return await self._uncached(connection, transaction, wanted, pks, row_bytes)
        return await self._cached(connection, transaction, wanted, pks, row_bytes)

    async def _uncached(
        self,
        connection: AsyncConnection,
        transaction: AsyncExitStack,
        wanted: Candidates,
        pks: Sequence[int] | None,
        row_bytes: int,
    ) -> Found:
        """The rows straight from the database: those with the keys, or all."""
        self._metrics.searches.labels("database").inc()
        if pks is None:
            count = await _count(connection, wanted)
            blocks = vectors.read_all(connection, wanted.binding)
        else:
            count, blocks = len(pks), vectors.read_some(connection, pks)
        segments, give_back = self._spool.hold(blocks, count, row_bytes)
        incoming = self._started(Incoming(wanted.kb.revision, segments, transaction.pop_all(), shared=False))

        def release() -> None:
            incoming.leave()
            give_back()

        return Found(count, incoming.follow(), release)

    async def _cached(
        self,
        connection: AsyncConnection,
        transaction: AsyncExitStack,
        wanted: Candidates,
        pks: Sequence[int] | None,
        row_bytes: int,
    ) -> Found:
        """The rows from memory, as of the transaction or of a later one that another search has seen; or, where they
        are not there, on their way into it.
        """
        self._metrics.searches.labels("memory" if wanted.binding.pk in self._cache else "loaded").inc()
        # One search loads or refreshes, others for the same rows wait until it is clear what comes.
        async with self._locks.setdefault(wanted.binding.pk, asyncio.Lock()):
            current = await self._current(connection, wanted, row_bytes)
            if isinstance(current, VectorSet):
                segments = await self._picked(current, wanted, pks)
                return Found(sum([len(segment.pks) for segment in segments]), _each(segments))
            count = await _count(connection, wanted) if pks is None else len(pks)
            if current is None:
                blocks = segments_of(vectors.read_all(connection, wanted.binding), row_bytes)
                current = self._started(Incoming(wanted.kb.revision, blocks, transaction.pop_all(), shared=True))
                self._coming[wanted.binding.pk] = current
                current.task.add_done_callback(partial(self._arrived, wanted.binding.pk, current))
            else:
                current.join()
        return Found(count, self._following(current, wanted, pks), current.leave)

    async def _current(
        self, connection: AsyncConnection, wanted: Candidates, row_bytes: int
    ) -> VectorSet | Incoming | None:
        """The binding's rows in memory, brought up to date; or those on their way, if they are of the transaction's
        revision; or neither.
        """
        binding, kb = wanted.binding, wanted.kb
        incoming = self._coming.get(binding.pk)
        if incoming is not None and incoming.wanted:
            if incoming.revision == kb.revision:
                return incoming
            await asyncio.wait([incoming.task])
        cached = self._cache.get(binding.pk)
        if cached is None or (cached.segments and cached.segments[0].rows.shape[1] != row_bytes):
            return None  # or everything was deleted, and the next first index had another length
        if cached.revision < kb.revision:
            cached = await self._refreshed(connection, wanted, cached, row_bytes)
        self._keep(binding.pk, cached)
        return cached

    async def _picked(self, rows: VectorSet, wanted: Candidates, pks: Sequence[int] | None) -> list[Segment]:
        if pks is None:
            return rows.between(*wanted.pk_range)
        if len(pks) <= _FEW_KEYS:
            return rows.only(pks)
        return await asyncio.to_thread(rows.only, pks)

    async def _following(
        self, incoming: Incoming, wanted: Candidates, pks: Sequence[int] | None
    ) -> AsyncIterator[Segment | None]:
        keys = None if pks is None else np.array(pks, dtype=np.int64)
        async for segment in incoming.follow():
            if segment is None:
                yield None
                continue
            rows = VectorSet(incoming.revision, (segment,))
            for picked in rows.between(*wanted.pk_range) if keys is None else rows.only(keys):
                yield picked

    def _started(self, incoming: Incoming) -> Incoming:
        self._tasks.add(incoming.task)
        incoming.task.add_done_callback(self._ended)
        return incoming

    def _ended(self, task: asyncio.Task[tuple[Segment, ...]]) -> None:
        self._tasks.discard(task)
        # Those who follow have raised it; asyncio shall not report it again.
        task.cancelled() or task.exception()

    def _arrived(self, binding_pk: int, incoming: Incoming, task: asyncio.Task[tuple[Segment, ...]]) -> None:
        if self._coming.get(binding_pk) is incoming:
            del self._coming[binding_pk]
        if task.cancelled() or task.exception():
            return
        cached = self._cache.get(binding_pk)
        if cached is None or cached.revision < incoming.revision:
            self._keep(binding_pk, VectorSet(incoming.revision, task.result()))

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


async def _count(connection: AsyncConnection, wanted: Candidates) -> int:
    """How many candidates there are, whatever the filter."""
    if not wanted.bounded and await contexts.is_only_binding(connection, wanted.kb):
        return wanted.kb.number_of_vectors  # known without counting a hundred thousand keys
    return await vectors.count(connection, wanted.binding, wanted.pk_range)


async def _each(segments: Sequence[Segment]) -> AsyncIterator[Segment | None]:
    for segment in segments:
        yield segment
