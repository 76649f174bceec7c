"""What is done by metadata: search, pages, delete, patch. All within the chunks of one context."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Response
from msgspec import UNSET
from sqlalchemy.ext.asyncio import AsyncConnection

from xtrace_core import wire
from xtrace_core.metadata_filter import Filter
from xtrace_server.api.reading import json_pieces, read_chunks
from xtrace_server.auth.guard import DELETER, READER, WRITER, ApiCaller, requires
from xtrace_server.http.answers import json_answer, projection
from xtrace_server.http.bodies import body_of
from xtrace_server.http.described import describes
from xtrace_server.http.page_token import PageToken, decode_token, encode_token, query_digest
from xtrace_server.http.requests import ApiCallerDep, StateDep, meta_filter
from xtrace_server.limits.sizes import check_meta_data, check_projection
from xtrace_server.state import ServerState
from xtrace_server.storage import chunk_writes, chunks, contexts, knowledge_bases
from xtrace_server.storage.chunk_writes import ChunkChange
from xtrace_server.storage.chunks import PageQuery
from xtrace_server.storage.contexts import Binding
from xtrace_server.storage.knowledge_bases import KnowledgeBase

router = APIRouter(prefix="/v1/chunk")

_MAX_OFFSET = 2**62
_RESULTS = b'{"results":'
"""How the JSON of a page begins: with the field that its struct begins with."""


@router.post("/meta/{org}")
@requires(READER)
@describes(list[wire.Chunk])
async def search(
    state: StateDep,
    caller: ApiCallerDep,
    body: Annotated[wire.SearchMetaData, Depends(body_of(wire.SearchMetaData))],
) -> Response:
    """Every chunk that the filter matches, by ascending id."""
    check_projection(state.settings, body.projection)
    filter_, shown = meta_filter(state.settings, body.meta_filter), projection(body.projection, body.return_content)
    async with state.database.read() as connection:
        binding = await _binding(connection, caller, body.kb_id, body.context_id)
        pks = await chunks.matching_pks(connection, binding, filter_) if binding else []
        found = await read_chunks(connection, state.schemes, pks, shown)
    return json_pieces(found)


@router.post("/meta/page/{org}")
@requires(READER)
@describes(wire.Page)
async def page(
    state: StateDep,
    caller: ApiCallerDep,
    body: Annotated[wire.PageMetaData, Depends(body_of(wire.PageMetaData))],
) -> Response:
    """One page of the chunks that the filter matches, sorted, with the token of the next."""
    check_projection(state.settings, body.projection)
    filter_, shown = meta_filter(state.settings, body.meta_filter), projection(body.projection, body.return_content)
    digest = query_digest(body.kb_id, body.context_id, filter_, body.sort_by, body.sort_order)
    token = decode_token(body.page_token, digest) if body.page_token else None
    offset = min(body.offset or 0, _MAX_OFFSET) if token is None else token.offset
    limit = None if body.limit is None else min(body.limit, _MAX_OFFSET)
    async with state.database.read() as connection:
        binding = await _binding(connection, caller, body.kb_id, body.context_id)
        if binding is None:
            return json_answer(wire.Page([], 0, body.limit, offset, False, None))
        total = await chunks.count_matching(connection, binding, filter_)
        positions, has_more = await chunks.page(
            connection,
            PageQuery(
                binding=binding,
                filter_=filter_,
                sort_by=body.sort_by,
                descending=body.sort_order == "desc",
                limit=limit,
                offset=offset,
                after=token.position if token else None,
            ),
        )
        found = await read_chunks(connection, state.schemes, [position.pk for position in positions], shown)
    following = None
    if has_more and positions:
        following = encode_token(PageToken(digest, positions[-1], offset + len(positions)))
    rest = msgspec.json.encode(wire.Page([], total, body.limit, offset, has_more, following))
    return json_pieces([_RESULTS, *found, rest.removeprefix(_RESULTS + b"[]")])


@router.delete("/by-meta/{org}")
@requires(DELETER)
@describes((wire.DeletedCount, wire.WouldDeleteCount))
async def delete(
    state: StateDep,
    caller: ApiCallerDep,
    body: Annotated[wire.DeleteByMetaData, Depends(body_of(wire.DeleteByMetaData))],
) -> Response:
    """Deletes the chunks that the filter matches, or says how many these are."""
    filter_ = meta_filter(state.settings, body.meta_filter)
    if body.dry_run:
        return json_answer(wire.WouldDeleteCount(await _count(state, caller, body, filter_)))
    async with _matched(state, caller, body, filter_) as (connection, kb, _, pks):
        removed = await chunk_writes.remove(connection, kb, pks)
    return json_answer(wire.DeletedCount(removed))


@router.patch("/by-meta/{org}")
@requires(WRITER)
@describes((wire.UpdatedCount, wire.WouldUpdateCount), statuses=(409,))
async def patch(
    state: StateDep,
    caller: ApiCallerDep,
    body: Annotated[wire.PatchByMetaData, Depends(body_of(wire.PatchByMetaData))],
) -> Response:
    """Changes the metadata of the chunks that the filter matches, or says how many these are."""
    filter_ = meta_filter(state.settings, body.meta_filter)
    check_meta_data(state.settings, body.patch, "patch")
    if body.dry_run:
        return json_answer(wire.WouldUpdateCount(await _count(state, caller, body, filter_)))
    async with _matched(state, caller, body, filter_) as (connection, kb, binding, pks):
        if binding is not None and pks:
            await contexts.check_not_retired(connection, [binding.context_pk])
        if any(getattr(body.patch, field) is not UNSET for field in (*wire.TAGS, "facets")):
            await chunk_writes.change_all(connection, kb, [ChunkChange(pk=pk, meta_data=body.patch) for pk in pks])
    return json_answer(wire.UpdatedCount(len(pks)))


async def _binding(connection: AsyncConnection, caller: ApiCaller, kb_id: str, context_id: str) -> Binding | None:
    """What the request is about; None where nothing is stored under the context."""
    kb = await caller.knowledge_base(connection, kb_id)
    context = await contexts.find(connection, caller.organisation_id, context_id)
    return None if context is None else await contexts.find_binding(connection, kb, context)


async def _count(
    state: ServerState, caller: ApiCaller, body: wire.DeleteByMetaData | wire.PatchByMetaData, filter_: Filter
) -> int:
    async with state.database.read() as connection:
        binding = await _binding(connection, caller, body.kb_id, body.context_id)
        return await chunks.count_matching(connection, binding, filter_) if binding else 0


@asynccontextmanager
async def _matched(
    state: ServerState, caller: ApiCaller, body: wire.DeleteByMetaData | wire.PatchByMetaData, filter_: Filter
) -> AsyncIterator[tuple[AsyncConnection, KnowledgeBase, Binding | None, list[int]]]:
    """A writing transaction on the knowledge base, with the keys of the chunks that the filter matches in it."""
    async with state.database.read() as connection:
        kb = await caller.knowledge_base(connection, body.kb_id)
    async with state.database.write() as connection:
        kb = await knowledge_bases.lock(connection, kb)
        binding = await _binding(connection, caller, body.kb_id, body.context_id)
        pks = await chunks.matching_pks(connection, binding, filter_) if binding else []
        yield connection, kb, binding, pks
