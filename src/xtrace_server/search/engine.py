"""Computes encrypted searches: finds the candidates, then multiplies their rows with the query, block by
block.

`Engine.prepare` does everything that needs the database, in one transaction that is closed when it returns:
the revision check of what is in memory, the filter, the reading of rows that are not. `Search.blocks` then
computes in threads, off the event loop, from arrays that nobody changes.
"""

import asyncio
import tempfile
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sqlalchemy.ext.asyncio import AsyncConnection

from xtrace_core.evaluation import Evaluation
from xtrace_core.metadata_filter import EVERY_CHUNK, Filter
from xtrace_server.search.answers import AnswerForm
from xtrace_server.search.vector_set import Keys, Segment, VectorSet, segment_of, vector_set
from xtrace_server.storage import chunks, vectors
from xtrace_server.storage.contexts import Binding
from xtrace_server.storage.knowledge_bases import KnowledgeBase

BLOCK_BYTES = 256 * 1024
"""How many bytes of ciphertexts one step of a scan multiplies."""
SPOOL_BYTES = 64 * 2**20
"""From how many bytes on rows that the cache has no room for wait in a temporary file, not in memory."""
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
    """A prepared search with one query or several: `count` rows, and the blocks of the answer."""

    def __init__(
        self,
        evaluation: Evaluation,
        queries: Sequence[Sequence[bytes]],
        segments: Sequence[Segment],
        pool: ThreadPoolExecutor,
    ) -> None:
        self._evaluation = evaluation
        self._queries = queries
        self._segments = segments
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

    def _parts(self) -> list[Segment]:
        parts = []
        for segment in self._segments:
            step = max(BLOCK_BYTES // segment.rows.shape[1], 1)
            for i in range(0, len(segment.pks), step):
                part = slice(i, i + step)
                parts.append(Segment(segment.pks[part], segment.rows[part], segment.nonces[part]))
        return parts

    def _evaluate(self, part: Segment, form: AnswerForm) -> bytes:
        rows = np.ascontiguousarray(part.rows)
        # One pass over the rows: a block stays in the processor's cache while the queries take their turns.
        answers = [self._evaluation.evaluate(rows, query) for query in self._queries]
        computed = answers[0] if len(answers) == 1 else np.concatenate(answers, axis=1)
        return form.block(Segment(part.pks, computed, part.nonces))


class Engine:
    """Prepares searches, and keeps the rows of the bindings last searched within a budget of memory."""

    def __init__(self, cache_bytes: int, threads: int, folder: Path) -> None:
        self._budget = cache_bytes
        self._folder = folder
        self._cache: OrderedDict[int, VectorSet] = OrderedDict()
        self._locks: dict[int, asyncio.Lock] = {}
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="xtrace-search")

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
        return Search(evaluation, queries, await self._segments(connection, wanted, row_bytes), self._pool)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._cache.clear()

    async def _segments(self, connection: AsyncConnection, wanted: Candidates, row_bytes: int) -> Sequence[Segment]:
        pks: list[int] | None = None
        if wanted.filter_ != EVERY_CHUNK:
            key_range = (wanted.first_pk, wanted.last_pk)
            pks = await chunks.matching_pks(connection, wanted.binding, wanted.filter_, key_range)
        fits = wanted.kb.number_of_vectors * row_bytes <= self._budget
        if wanted.binding.pk not in self._cache:
            if pks is None and wanted.bounded:
                # How many there are at most is known without asking.
                most = min(wanted.last_pk, wanted.kb.first_pk + wanted.kb.next_chunk_id - 1) - wanted.first_pk + 1
                if not fits or most * _SPARSE < wanted.kb.number_of_vectors:
                    pks = await chunks.matching_pks(
                        connection, wanted.binding, EVERY_CHUNK, (wanted.first_pk, wanted.last_pk)
                    )
            if pks is not None and (not fits or len(pks) * _SPARSE < wanted.kb.number_of_vectors):
                return await self._read(connection, wanted, pks, row_bytes)
            if not fits:
                return await self._read(connection, wanted, None, row_bytes)
        current = await self._current(connection, wanted, row_bytes)
        if pks is not None:
            return current.only(pks)
        return current.between(wanted.first_pk, wanted.last_pk)

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
                blocks = [block async for block in vectors.read_all(connection, binding)]
                current = await asyncio.to_thread(vector_set, kb.revision, blocks, row_bytes)
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
        present: Keys | None = None
        if kb.removal_revision > cached.revision:
            present = np.array(await vectors.read_pks(connection, binding), dtype=np.int64)

        def refresh() -> VectorSet:
            base = cached if present is None else cached.kept(present)
            return base.merged(vector_set(kb.revision, blocks, row_bytes))

        return await asyncio.to_thread(refresh)

    def _keep(self, binding_pk: int, current: VectorSet) -> None:
        self._cache[binding_pk] = current
        self._cache.move_to_end(binding_pk)
        while self._cache and sum([kept.nbytes for kept in self._cache.values()]) > self._budget:
            evicted, _ = self._cache.popitem(last=False)
            if evicted in self._locks and not self._locks[evicted].locked():
                del self._locks[evicted]

    async def _read(
        self, connection: AsyncConnection, wanted: Candidates, pks: Sequence[int] | None, row_bytes: int
    ) -> Sequence[Segment]:
        """The rows straight from the database: those with the keys, or all; many of them by way of a file."""
        count = wanted.kb.number_of_vectors if pks is None else len(pks)
        source = vectors.read_all(connection, wanted.binding) if pks is None else vectors.read_some(connection, pks)
        if count * row_bytes <= SPOOL_BYTES:
            return [segment_of(block, row_bytes) async for block in source if block.pks]
        segments = []
        # Nobody else sees the file, and it is gone as soon as the last array over it is.
        with tempfile.TemporaryFile(dir=self._folder) as file:
            async for block in source:
                if not block.pks:
                    continue
                offset = file.tell()
                await asyncio.to_thread(file.write, b"".join(block.rows))
                await asyncio.to_thread(file.flush)
                rows = np.memmap(file, np.uint8, "r", offset, (len(block.pks), row_bytes))
                segments.append(Segment(np.array(block.pks, dtype=np.int64), rows, tuple(block.nonces)))
        return segments
