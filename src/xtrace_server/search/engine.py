"""Decides where the rows of a search come from: memory, the database, or a read from the database into memory.

`SearchEngine.search` does everything that needs the database in one separate transaction: the caller's look-up, the
comparison of the cached rows with the knowledge base's revision, and the filter. A task continues with the transaction
and reads the rows that are not in memory, while a scanner already computes with those that have arrived.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np

from xtrace_core.schemes.interface import Evaluation, Query
from xtrace_server.limits.filters import filtering
from xtrace_server.metrics import Metrics, Reading
from xtrace_server.search.cache import VectorSetCache
from xtrace_server.search.held import Holding, held_bytes
from xtrace_server.search.incoming import Incoming
from xtrace_server.search.interface import AnySegment, Computation, Remote, Scanner, Selection, rows_bytes, whole
from xtrace_server.search.removals import Removals
from xtrace_server.search.running import Found, Search
from xtrace_server.search.spool import Spool
from xtrace_server.search.vector_set import VectorSet, segment_of, segments_of, vector_set
from xtrace_server.settings import Settings
from xtrace_server.storage import chunks, vectors
from xtrace_server.storage.candidates import Candidates
from xtrace_server.storage.chunks import Reserve
from xtrace_server.storage.database import Connection, Database
from xtrace_server.storage.knowledge_bases import KnowledgeBase

_FEW_KEYS = 1000
"""Up to this many rows are selected in the event loop; more are selected in a thread."""
_SPARSE = 4
"""A filter that matches fewer than one row in this many is answered without loading the other rows."""


@dataclass(frozen=True, slots=True)
class SearchTarget:
    """The target of a search; without candidates for a context under which nothing can be stored yet."""

    evaluation: Evaluation
    candidates: Candidates | None


FindTarget: TypeAlias = Callable[[Connection], Awaitable[SearchTarget]]
"""Looks up the target in the search's own transaction."""


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """What one search sees. Leaving `transaction` ends it, unless a task that continues reading has taken it over."""

    organisation_id: str
    connection: Connection
    transaction: AsyncExitStack
    candidates: Candidates
    row_bytes: int
    reserve: Reserve


class SearchEngine:
    """Prepares searches, and caches the rows of searched bindings within a memory budget."""

    def __init__(self, database: Database, scanner: Scanner, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._database = database
        self._scanner = scanner
        self._spool = Spool(settings.data, settings.search_memory_bytes)
        self._metrics = metrics
        self._cache = VectorSetCache(settings.cache_bytes, metrics)
        self._removals = Removals()
        self._coming: dict[int, Incoming] = {}
        """The rows being read into the cache."""
        self._tasks: set[asyncio.Task[tuple[AnySegment, ...]]] = set()

    async def search(
        self,
        organisation_id: str,
        find: FindTarget,
        queries: Sequence[Query],
        reserve: Reserve,
        *,
        filtered: bool = False,
    ) -> Search:
        """Returns a search of the organisation over the target that `find` looks up.

        `reserve` reserves memory for the keys of a filter's matches; `filtered` says that the target has a filter.
        Raises what these two raise, and `InvalidCiphertext`.
        """
        # Rows in memory that are current need nothing from the database but their revision, so no transaction.
        found = None
        if not filtered:
            async with self._database.read(organisation_id, single=True) as connection:
                target = await find(connection)
            found = self._found_in_memory(target, _checked_row_bytes(target, queries))
        if found is None:
            async with AsyncExitStack() as transaction:
                connection = await transaction.enter_async_context(self._database.read(organisation_id))
                target = await find(connection)
                row_bytes = _checked_row_bytes(target, queries)
                found = Found(0, _each([]))
                if target.candidates is not None and row_bytes is not None:
                    seen = _Snapshot(organisation_id, connection, transaction, target.candidates, row_bytes, reserve)
                    found = await self._found(seen)
        return Search(Computation(target.evaluation, queries), found, self._scanner, self._metrics)

    async def start(self) -> None:
        """Starts the scanner."""
        await self._scanner.start()

    def note_removal(self, kb: KnowledgeBase, pks: Sequence[int]) -> None:
        """Reports that chunks were permanently removed from this version of the knowledge base."""
        if pks:
            self._removals.add(kb, pks)

    def removed_since(self, kb: KnowledgeBase, revision: int) -> vectors.Keys | None:
        """The keys of the chunks that were permanently removed after the revision; None if not all are known."""
        return self._removals.since(kb, revision)

    def forget(self, binding_pks: Iterable[int]) -> None:
        """Evicts the rows of deleted bindings."""
        for binding_pk in binding_pks:
            self._cache.drop(binding_pk)

    def memory(self) -> dict[str, Reading]:
        """Returns the memory in use, by purpose."""
        return {
            "cached": lambda: self._cache.kept_bytes,
            "read": lambda: self._cache.read_bytes,
            "coming": lambda: self._cache.coming_bytes,
            "spooled": lambda: self._spool.held_bytes,
        }

    def cluster(self) -> dict[str, Reading]:
        """Returns the number of the cluster's nodes, and the bytes that they hold; 0 without a cluster."""
        remote = self._scanner.remote
        return {
            "nodes": lambda: remote.nodes if remote else 0,
            "held_bytes": lambda: remote.held_bytes if remote else 0,
        }

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._scanner.close()
        self._cache.clear()

    def _found_in_memory(self, target: SearchTarget, row_bytes: int | None) -> Found | None:
        """Returns all rows of the target's range from memory; None if they are not there, or not as of its revision."""
        candidates = target.candidates
        if candidates is None or row_bytes is None:
            return Found(0, _each([]))
        binding, remote = candidates.binding, self._remote(candidates)
        cached = self._usable(binding.pk, row_bytes, remote)
        if cached is None or cached.revision < candidates.kb.revision or candidates.scope.selects:
            return None
        self._cache.keep(binding.pk, cached)
        return self._read_from_memory(cached.between(*candidates.pk_range), remote)

    def _read_from_memory(self, selections: Sequence[Selection], remote: Remote | None) -> Found:
        self._metrics.searches.labels("cluster" if remote else "memory").inc()
        release = self._cache.pin([selection.segment for selection in selections])
        return Found(sum(map(len, selections)), _each(selections), release)

    async def _found(self, seen: _Snapshot) -> Found:
        candidates, connection = seen.candidates, seen.connection
        pks: list[int] | None = None
        size, binding_pk = candidates.kb.number_of_vectors, candidates.binding.pk
        in_memory = binding_pk in self._cache or binding_pk in self._coming
        remote = self._remote(candidates)
        if candidates.scope.selects:
            async with filtering(self._settings, candidates):
                few = None if in_memory and not remote else await vectors.read_matching(connection, candidates)
                if few is None or len(few.pks) * _SPARSE >= size:
                    few, pks = None, await chunks.matching_pks(connection, candidates, seen.reserve)
            if few is not None:
                self._metrics.searches.labels("database").inc()
                return Found(len(few.pks), _each([whole(segment_of(few, seen.row_bytes))] if few.pks else []))
        elif candidates.bounded and not in_memory and not remote:
            # An upper bound is known without a query.
            kb, (first_pk, last_pk) = candidates.kb, candidates.pk_range
            most = min(last_pk, kb.first_pk + kb.next_chunk_id - 1) - first_pk + 1
            if most * _SPARSE < size:
                pks = await chunks.matching_pks(connection, candidates, seen.reserve)
        if not in_memory and not remote and pks is not None and len(pks) * _SPARSE < size:
            return await self._uncached(seen, pks)
        return await self._cached(seen, pks) or await self._uncached(seen, pks)

    async def _uncached(self, seen: _Snapshot, pks: Sequence[int] | None) -> Found:
        """Returns the rows directly from the database: those with the keys, or all."""
        self._metrics.searches.labels("database").inc()
        if pks is None and seen.candidates.bounded:
            pks = await chunks.matching_pks(seen.connection, seen.candidates, seen.reserve)
        if pks is None:
            count = await chunks.count_all(seen.connection, seen.candidates)
            blocks = vectors.read_all(seen.connection, seen.candidates.binding)
        else:
            count, blocks = len(pks), vectors.read_some(seen.connection, pks)
        segments, release_rows = self._spool.hold(blocks, count, seen.row_bytes)
        incoming = self._started(seen, segments, shared=False)

        def release() -> None:
            incoming.leave()
            release_rows()

        return Found(count, _selected(incoming, lambda segment: [whole(segment)]), release)

    async def _cached(self, seen: _Snapshot, pks: Sequence[int] | None) -> Found | None:
        """Returns the rows from memory, as of the transaction or of a later one that another search has seen, or rows
        that are being read into memory; None if they do not fit.
        """
        binding, kb = seen.candidates.binding, seen.candidates.kb
        # One search loads or refreshes; others for the same rows wait until its result is clear.
        async with self._cache.lock(binding.pk):
            remote = self._remote(seen.candidates)
            current = await self._current(seen, remote)
            if isinstance(current, VectorSet):
                return self._read_from_memory(await self._picked(current, seen.candidates, pks), remote)
            count = await chunks.count_all(seen.connection, seen.candidates) if pks is None else len(pks)
            if current is None:
                size = (partial(held_bytes, remote) if remote else rows_bytes)(kb.number_of_vectors, seen.row_bytes)
                if not self._cache.make_room(binding.pk, size):
                    return None
                current = self._started(seen, self._all_rows(seen, remote), shared=True)
                self._coming[binding.pk] = current
                current.task.add_done_callback(partial(self._arrived, binding.pk, current))
            else:
                current.join()
        self._metrics.searches.labels("loaded").inc()
        keys = None if pks is None else np.array(pks, dtype=np.int64)

        def pick(segment: AnySegment) -> list[Selection]:
            rows = VectorSet(0, (segment,))
            return rows.between(*seen.candidates.pk_range) if keys is None else rows.only(keys)

        return Found(count, _selected(current, pick), current.leave)

    async def _current(self, seen: _Snapshot, remote: Remote | None) -> VectorSet | Incoming | None:
        """Returns the binding's rows in memory, brought up to date; or those being read, if they have the transaction's
        revision; or neither.
        """
        binding, kb = seen.candidates.binding, seen.candidates.kb
        incoming = self._coming.get(binding.pk)
        if incoming is not None and incoming.wanted:
            if incoming.revision == kb.revision:
                return incoming
            await asyncio.wait([incoming.task])
        cached = self._usable(binding.pk, seen.row_bytes, remote)
        if cached is None:
            return None
        if cached.revision < kb.revision:
            cached = await self._refreshed(seen, cached, remote)
        self._cache.keep(binding.pk, cached)
        return cached

    def _usable(self, binding_pk: int, row_bytes: int, remote: Remote | None) -> VectorSet | None:
        """Returns the binding's rows as last cached, if a search with rows of this length can use them."""
        cached = self._cache.get(binding_pk)
        if cached is None or (cached.segments and cached.segments[0].row_bytes != row_bytes):
            return None  # everything was deleted, and the next first index had another length
        if cached.held and remote is None:
            self._cache.drop(binding_pk)
            return None  # the cluster is gone
        return cached

    async def _picked(self, rows: VectorSet, candidates: Candidates, pks: Sequence[int] | None) -> list[Selection]:
        if pks is None:
            return rows.between(*candidates.pk_range)
        if len(pks) <= _FEW_KEYS:
            return rows.only(pks)
        return await asyncio.to_thread(rows.only, pks)

    def _started(self, seen: _Snapshot, segments: AsyncIterator[AnySegment], *, shared: bool) -> Incoming:
        incoming = Incoming(seen.candidates.kb.revision, segments, seen.transaction.pop_all(), shared=shared)
        self._tasks.add(incoming.task)
        incoming.task.add_done_callback(self._ended)
        return incoming

    def _ended(self, task: asyncio.Task[tuple[AnySegment, ...]]) -> None:
        self._tasks.discard(task)
        # The searches that use it raise this; asyncio must not report it again.
        task.cancelled() or task.exception()

    def _arrived(self, binding_pk: int, incoming: Incoming, task: asyncio.Task[tuple[AnySegment, ...]]) -> None:
        if self._coming.get(binding_pk) is incoming:
            del self._coming[binding_pk]
            self._cache.arrived(binding_pk)
        if task.cancelled() or task.exception():
            return
        cached = self._cache.get(binding_pk)
        if cached is None or cached.revision < incoming.revision:
            self._cache.keep(binding_pk, VectorSet(incoming.revision, task.result()), searched=False)
        if incoming.wanted:
            incoming.release = self._cache.pin(task.result())

    async def _refreshed(self, seen: _Snapshot, cached: VectorSet, remote: Remote | None) -> VectorSet:
        binding, kb = seen.candidates.binding, seen.candidates.kb
        removed = self._removals.since(kb, cached.revision)
        present = removed if removed is not None else await vectors.read_pks(seen.connection, binding)

        def left() -> VectorSet:
            return cached.kept(present) if removed is None else cached.without(removed)

        if remote:
            return await self._holding(seen, remote).refreshed(await asyncio.to_thread(left))
        blocks = [block async for block in vectors.read_newer(seen.connection, binding, cached.revision)]
        return await asyncio.to_thread(lambda: left().merged(vector_set(kb.revision, blocks, seen.row_bytes)))

    def _all_rows(self, seen: _Snapshot, remote: Remote | None) -> AsyncIterator[AnySegment]:
        if remote:
            return self._holding(seen, remote).loaded()
        return segments_of(vectors.read_all(seen.connection, seen.candidates.binding), seen.row_bytes)

    def _remote(self, candidates: Candidates) -> Remote | None:
        """Returns what holds the rows outside this process, if anything should."""
        remote, kb = self._scanner.remote, candidates.kb
        return remote if remote is not None and remote.wants(kb.number_of_vectors, kb.next_chunk_id) else None

    def _holding(self, seen: _Snapshot, remote: Remote) -> Holding:
        database, organisation_id = self._database, seen.organisation_id
        return Holding(database, remote, organisation_id, seen.connection, seen.candidates, seen.row_bytes)


def _checked_row_bytes(target: SearchTarget, queries: Sequence[Query]) -> int | None:
    """Returns the length of the target's rows; None if nothing is stored. Raises `InvalidCiphertext`."""
    row_bytes = target.evaluation.row_bytes
    if row_bytes is None and target.candidates is not None:
        row_bytes = target.candidates.binding.row_bytes
    for query in queries:
        target.evaluation.check_query(query, row_bytes)
    return row_bytes


async def _each(selections: Sequence[Selection]) -> AsyncIterator[Selection | None]:
    for selection in selections:
        yield selection


async def _selected(
    incoming: Incoming, pick: Callable[[AnySegment], list[Selection]]
) -> AsyncIterator[Selection | None]:
    """Yields the selected parts of the segments as they arrive, and None when the next one has to be awaited."""
    async for segment in incoming.follow():
        if segment is None:
            yield None
            continue
        for selection in pick(segment):
            yield selection
