"""Search, paging, deletion and patches by metadata, all within the chunks of one context."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Response

from xtrace_core import wire
from xtrace_server.auth.guard import DELETER, READER, WRITER, requires
from xtrace_server.http.answers import json_answer
from xtrace_server.http.bodies import body_of
from xtrace_server.http.chunk_answer import ChunkAnswer
from xtrace_server.http.described import describes
from xtrace_server.http.page_token import PageToken, decode_token, encode_token, query_digest
from xtrace_server.http.requests import ApiCallerDep, RunningDep, StateDep, scope_of
from xtrace_server.limits.sizes import check_projection
from xtrace_server.operations import by_metadata
from xtrace_server.operations.projections import projection
from xtrace_server.storage.chunk_pages import PageQuery

router = APIRouter(prefix="/v1/chunk")

_MAX_OFFSET = 2**62
_RESULTS = b'{"results":'
"""The beginning of a page's JSON: the first field of its struct."""


@router.post("/meta/{org}")
@requires(READER)
@describes(list[wire.Chunk])
async def search(
    state: StateDep,
    caller: ApiCallerDep,
    running: RunningDep,
    body: Annotated[wire.SearchMetaData, Depends(body_of(wire.SearchMetaData))],
) -> Response:
    """Returns every chunk that the filter matches, by ascending id."""
    check_projection(state.settings, body.projection)
    scope, shown = scope_of(state.settings, body), projection(body.projection, body.return_content)
    answer = ChunkAnswer(running, state.settings.data)
    await by_metadata.search(state, caller, scope, shown, answer)
    return await answer.response()


@router.post("/meta/page/{org}")
@requires(READER)
@describes(wire.Page)
async def page(
    state: StateDep,
    caller: ApiCallerDep,
    running: RunningDep,
    body: Annotated[wire.PageMetaData, Depends(body_of(wire.PageMetaData))],
) -> Response:
    """Returns one sorted page of the chunks that the filter matches, with the token of the next page."""
    check_projection(state.settings, body.projection)
    scope, shown = scope_of(state.settings, body), projection(body.projection, body.return_content)
    digest = query_digest(scope, body.sort_by, body.sort_order)
    token = decode_token(body.page_token, digest) if body.page_token else None
    offset = min(body.offset or 0, _MAX_OFFSET) if token is None else token.offset
    query = PageQuery(
        sort_by=body.sort_by,
        descending=body.sort_order == "desc",
        limit=None if body.limit is None else min(body.limit, _MAX_OFFSET),
        offset=offset,
        after=token.position if token else None,
    )
    answer = ChunkAnswer(running, state.settings.data, _RESULTS + b"[")
    found = await by_metadata.page(state, caller, scope, query, shown, answer)
    following = None
    keys = found.keys
    if keys.has_more and keys.last is not None:
        following = encode_token(PageToken(digest, keys.last, offset + len(keys.pks)))
    rest = msgspec.json.encode(wire.Page([], found.total, body.limit, offset, keys.has_more, following))
    return await answer.response(rest.removeprefix(_RESULTS + b"["))


@router.delete("/by-meta/{org}")
@requires(DELETER)
@describes((wire.DeletedCount, wire.WouldDeleteCount))
async def delete(
    state: StateDep,
    caller: ApiCallerDep,
    running: RunningDep,
    body: Annotated[wire.DeleteByMetaData, Depends(body_of(wire.DeleteByMetaData))],
) -> Response:
    """Deletes the chunks that the filter matches, or only counts them."""
    scope = scope_of(state.settings, body, chosen=True)
    count = await by_metadata.delete(state, caller, scope, running.reserve_keys, dry_run=body.dry_run)
    return json_answer(wire.WouldDeleteCount(count) if body.dry_run else wire.DeletedCount(count))


@router.patch("/by-meta/{org}")
@requires(WRITER)
@describes((wire.UpdatedCount, wire.WouldUpdateCount), statuses=(409,))
async def patch(
    state: StateDep,
    caller: ApiCallerDep,
    running: RunningDep,
    body: Annotated[wire.PatchByMetaData, Depends(body_of(wire.PatchByMetaData))],
) -> Response:
    """Changes the metadata of the chunks that the filter matches, or only counts them."""
    scope = scope_of(state.settings, body, chosen=True)
    count = await by_metadata.patch(state, caller, scope, body.patch, running.reserve_keys, dry_run=body.dry_run)
    return json_answer(wire.WouldUpdateCount(count) if body.dry_run else wire.UpdatedCount(count))
