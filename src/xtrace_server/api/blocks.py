"""Blocks: vectors that were encrypted together, as an index over chunks."""

from collections.abc import AsyncIterator
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request, Response

from xtrace_core import block_frames, wire
from xtrace_server.auth.guard import READER, WRITER, requires
from xtrace_server.http.answers import FOREVER, StreamedAnswer, json_answer
from xtrace_server.http.bodies import body_of
from xtrace_server.http.described import BLOCK_IDS, CONTEXT_ID, KB_ID, describes
from xtrace_server.http.direct import DirectRoute
from xtrace_server.http.requests import (
    ApiCallerDep,
    RunningDep,
    StateDep,
    query_block_ids,
    query_string,
    scope_of,
)
from xtrace_server.http.search_answers import FramedAnswer
from xtrace_server.operations import blocks

router = APIRouter(prefix="/v1/block", route_class=DirectRoute)

_UNREAD_BYTES: Final = 4 * 2**20
"""The bytes of an answer that are buffered while its client does not read."""


@router.post("/plan/{org}")
@requires(READER)
@describes(wire.BlockPlan)
async def plan(
    state: StateDep,
    caller: ApiCallerDep,
    body: Annotated[wire.PlanBlocks, Depends(body_of(wire.PlanBlocks))],
) -> Response:
    """Returns how many candidates a search would have, and how many are in no block; with `list`, all blocks."""
    scope = scope_of(state.settings, body)
    return json_answer(await blocks.plan(state, caller, scope, listed=body.listed))


@router.post("/search/{org}")
@requires(READER)
@describes(None, media_types=(block_frames.MEDIA_TYPE,))
async def search(
    state: StateDep,
    caller: ApiCallerDep,
    running: RunningDep,
    body: Annotated[wire.SearchBlocks, Depends(body_of(wire.SearchBlocks))],
) -> Response:
    """Returns a value for each query and candidate in a block, and the records of the candidates in none."""
    found = await blocks.search(state, caller, scope_of(state.settings, body), body.queries, running.reserve_keys)
    await running.take("answers", min(found.answer_bytes, _UNREAD_BYTES))
    parts = found.stream(FramedAnswer(*found.record_shape))
    # The first values are computed before the status is sent.
    first = await anext(parts) + await anext(parts)

    async def stream() -> AsyncIterator[bytes]:
        yield first
        async for part in parts:
            yield part

    return StreamedAnswer(stream(), media_type=block_frames.MEDIA_TYPE)


@router.get("/{org}")
@requires(READER)
@describes(None, KB_ID, CONTEXT_ID, BLOCK_IDS, media_types=(block_frames.BLOCKS_MEDIA_TYPE,))
async def get(request: Request, state: StateDep, caller: ApiCallerDep, running: RunningDep) -> Response:
    """Returns the header, the chunk ids and the hints of blocks, which never change; unknown ids are omitted."""
    block_ids = query_block_ids(request, wire.MAX_BLOCKS_READ)
    found = await blocks.read(
        state, caller, query_string(request, "kb_id"), query_string(request, "context_id"), block_ids
    )
    await running.take("answers", 2 * sum([len(one.header) + len(one.ids) + len(one.hints) for one in found]))
    answer = b"".join([block_frames.fetched(one.pk, one.header, one.ids, one.hints) for one in found])
    headers = {"cache-control": FOREVER} if len(found) == len(block_ids) else {}
    return Response(answer, media_type=block_frames.BLOCKS_MEDIA_TYPE, headers=headers)


@router.post("/{org}")
@requires(WRITER)
@describes(wire.SealedBlock, statuses=(409,))
async def seal(
    state: StateDep,
    caller: ApiCallerDep,
    body: Annotated[wire.SealBlock, Depends(body_of(wire.SealBlock))],
) -> Response:
    """Stores a block, in which its chunks are from then on; the same block again changes nothing."""
    return json_answer(await blocks.seal(state, caller, body))


@router.delete("/{org}")
@requires(WRITER)
@describes(wire.UnsealedCount, KB_ID, CONTEXT_ID, BLOCK_IDS)
async def remove(request: Request, state: StateDep, caller: ApiCallerDep) -> Response:
    """Removes blocks, whose chunks are then in none; unknown ids are ignored."""
    kb_id, context_id = query_string(request, "kb_id"), query_string(request, "context_id")
    unsealed = await blocks.remove(state, caller, kb_id, context_id, query_block_ids(request, wire.MAX_BLOCKS_CHANGED))
    return json_answer(wire.UnsealedCount(unsealed))
