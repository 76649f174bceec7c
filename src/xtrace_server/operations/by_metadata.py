"""Chunks by their metadata, under one context: search, page, delete, patch."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from msgspec import UNSET

from xtrace_core import wire
from xtrace_server.auth.guard import ApiCaller
from xtrace_server.limits.filters import filtering
from xtrace_server.limits.sizes import check_meta_data, check_patch
from xtrace_server.operations.projections import Projection
from xtrace_server.operations.reading import ChunkSink, Reader, read_chunks
from xtrace_server.operations.writing import frees_space, repeatable, writing
from xtrace_server.scope import SearchScope
from xtrace_server.state import ServerState
from xtrace_server.storage import chunk_pages, chunk_writes, chunks, contexts
from xtrace_server.storage.candidates import Candidates
from xtrace_server.storage.chunk_pages import FoundKeys, PageQuery
from xtrace_server.storage.chunk_writes import ChunkChange
from xtrace_server.storage.chunks import Reserve
from xtrace_server.storage.database import Connection
from xtrace_server.storage.knowledge_bases import KnowledgeBase


async def search(state: ServerState, caller: ApiCaller, scope: SearchScope, shown: Projection, sink: ChunkSink) -> None:
    """Passes every chunk in the scope to the sink, by ascending id.

    Raises `KnowledgeBaseNotFound`.
    """
    async with state.database.read(caller.organisation_id) as connection:
        candidates = await _candidates(connection, caller, scope)
        pks = await _matching(state, connection, candidates, sink.reserve)
        await read_chunks(connection, state.schemes, pks, shown, sink)


@dataclass(frozen=True, slots=True)
class FoundPage:
    """One page, and the total number of chunks."""

    total: int
    keys: FoundKeys


async def page(
    state: ServerState, caller: Reader, scope: SearchScope, query: PageQuery, shown: Projection, sink: ChunkSink
) -> FoundPage:
    """Passes one page of the chunks in the scope to the sink, and describes the page.

    Raises `KnowledgeBaseNotFound`.
    """
    async with state.database.read(caller.organisation_id) as connection:
        candidates = await _candidates(connection, caller, scope)
        if candidates is None:
            return FoundPage(0, FoundKeys([], None, has_more=False))
        async with filtering(state.settings, candidates):
            total = await chunks.count_matching(connection, candidates)
            keys = await chunk_pages.page(connection, candidates, query, sink.reserve)
        await read_chunks(connection, state.schemes, keys.pks, shown, sink)
    return FoundPage(total, keys)


@repeatable
@frees_space
async def delete(state: ServerState, caller: ApiCaller, scope: SearchScope, reserve: Reserve, *, dry_run: bool) -> int:
    """Deletes the chunks in the scope, or only counts them; returns their number. Raises `KnowledgeBaseNotFound`."""
    if dry_run:
        return await _count(state, caller, scope)
    async with _locked(state, caller, scope) as (connection, kb, candidates):
        pks = await _matching(state, connection, candidates, reserve)
        removed = await chunk_writes.remove(connection, kb, pks)
    state.engine.note_removal(kb, removed)
    state.clearing.tell()
    return len(removed)


@repeatable
async def patch(
    state: ServerState,
    caller: ApiCaller,
    scope: SearchScope,
    change: wire.MetaData,
    reserve: Reserve,
    *,
    dry_run: bool,
) -> int:
    """Changes the metadata of the chunks in the scope, or only counts them; returns their number.

    Raises `KnowledgeBaseNotFound`, `ContextRetired` and `LimitExceeded`.
    """
    check_meta_data(state.settings, change, "patch")
    if dry_run:
        return await _count(state, caller, scope)
    async with _locked(state, caller, scope) as (connection, kb, candidates):
        pks = await _matching(state, connection, candidates, reserve)
        check_patch(state.settings, change, len(pks))
        if candidates is not None and pks:
            await contexts.check_not_retired(connection, [candidates.binding.context_pk])
        if any(getattr(change, field) is not UNSET for field in (*wire.TAGS, "facets")):
            await chunk_writes.change_all(connection, kb, [ChunkChange(pk=pk, meta_data=change) for pk in pks])
    return len(pks)


async def _count(state: ServerState, caller: ApiCaller, scope: SearchScope) -> int:
    async with state.database.read(caller.organisation_id) as connection:
        candidates = await _candidates(connection, caller, scope)
        async with filtering(state.settings, candidates):
            return await chunks.count_matching(connection, candidates) if candidates else 0


async def _matching(
    state: ServerState, connection: Connection, candidates: Candidates | None, reserve: Reserve
) -> list[int]:
    async with filtering(state.settings, candidates):
        return await chunks.matching_pks(connection, candidates, reserve) if candidates else []


async def _candidates(connection: Connection, caller: Reader, scope: SearchScope) -> Candidates | None:
    """Returns the candidates of the scope; None if nothing is stored under the context."""
    kb = await caller.knowledge_base(connection, scope.kb_id)
    binding = await contexts.binding_of(connection, caller.organisation_id, kb, scope.context_id)
    return None if binding is None else Candidates(kb, binding, scope)


@asynccontextmanager
async def _locked(
    state: ServerState, caller: ApiCaller, scope: SearchScope
) -> AsyncIterator[tuple[Connection, KnowledgeBase, Candidates | None]]:
    """A writing transaction on the knowledge base, with the candidates of the scope."""
    async with state.database.read(caller.organisation_id) as connection:
        kb = await caller.knowledge_base(connection, scope.kb_id)
    async with writing(state, caller) as connection:
        kb = await caller.locked(connection, kb.id)
        yield connection, kb, await _candidates(connection, caller, scope)
