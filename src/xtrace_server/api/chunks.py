"""Chunks: insert, get, update, patch, delete by id, and look up names."""

import asyncio
import hashlib
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from xtrace_core import wire
from xtrace_server.auth.guard import DELETER, READER, WRITER, requires
from xtrace_server.http.answers import json_answer
from xtrace_server.http.bodies import body_of
from xtrace_server.http.chunk_answer import ChunkAnswer
from xtrace_server.http.described import CHUNK_IDS, KB_ID, Parameter, describes
from xtrace_server.http.requests import (
    ApiCallerDep,
    RunningDep,
    StateDep,
    idempotency_key,
    query_chunk_ids,
    query_string,
    query_strings,
)
from xtrace_server.limits.sizes import check_projection
from xtrace_server.operations import chunks
from xtrace_server.operations.projections import EVERYTHING, projection
from xtrace_server.storage.idempotency import RequestKey

router = APIRouter(prefix="/v1/chunk")


@router.post("/{org}")
@requires(WRITER)
@describes(
    wire.InsertedChunks,
    statuses=(409,),
    headers=[Parameter(wire.IDEMPOTENCY_KEY_HEADER, {"type": "string", "minLength": 1, "maxLength": 255})],
)
async def insert(
    request: Request,
    state: StateDep,
    caller: ApiCallerDep,
    body: Annotated[wire.InsertChunks, Depends(body_of(wire.InsertChunks))],
) -> Response:
    """Stores chunks under new ids: all or none."""
    key = idempotency_key(request)
    request_key = None
    if key is not None:
        request_key = RequestKey(caller.key.hash, key, await asyncio.to_thread(_digest, request.state.body))
    return json_answer(await chunks.insert(state, caller, body, request_key))


@router.get("/{org}")
@requires(READER)
@describes(
    list[wire.Chunk],
    KB_ID,
    CHUNK_IDS,
    Parameter("projection", {"type": "array", "items": {"enum": sorted(wire.PROJECTION_FIELDS)}}),
)
async def get(request: Request, state: StateDep, caller: ApiCallerDep, running: RunningDep) -> Response:
    """Returns the chunks with the given ids, in that order; unknown ids are omitted."""
    kb_id, chunk_ids = query_string(request, "kb_id"), query_chunk_ids(request)
    names = query_strings(request, "projection")
    check_projection(state.settings, names)
    shown = projection(names) if names else EVERYTHING
    answer = ChunkAnswer(running, state.settings.data)
    await chunks.read(state, caller, kb_id, chunk_ids, shown, answer)
    return await answer.response()


@router.put("/{org}")
@requires(WRITER)
@describes(wire.UpdatedCount, statuses=(409,))
async def update(
    state: StateDep,
    caller: ApiCallerDep,
    body: Annotated[wire.UpdateChunks, Depends(body_of(wire.UpdateChunks))],
) -> Response:
    """Replaces the contents of chunks, and moves them to the given context: all or none."""
    return json_answer(wire.UpdatedCount(await chunks.update(state, caller, body)))


@router.patch("/{org}")
@requires(WRITER)
@describes(wire.UpdatedCount, statuses=(409,))
async def patch(
    state: StateDep,
    caller: ApiCallerDep,
    body: Annotated[wire.PatchChunks, Depends(body_of(wire.PatchChunks))],
) -> Response:
    """Changes the given fields of chunks: all or none. Chunks stay under their context."""
    return json_answer(wire.UpdatedCount(await chunks.patch(state, caller, body)))


@router.delete("/{org}")
@requires(DELETER)
@describes(wire.DeletedCount, KB_ID, CHUNK_IDS)
async def delete(request: Request, state: StateDep, caller: ApiCallerDep) -> Response:
    """Deletes the chunks with these ids; unknown ones are ignored."""
    kb_id, chunk_ids = query_string(request, "kb_id"), query_chunk_ids(request)
    return json_answer(wire.DeletedCount(await chunks.delete(state, caller, kb_id, chunk_ids)))


@router.post("/names/{org}")
@requires(READER)
@describes(wire.FoundNames)
async def find_names(
    state: StateDep,
    caller: ApiCallerDep,
    body: Annotated[wire.FindNames, Depends(body_of(wire.FindNames))],
) -> Response:
    """Returns which of the names are stored under the context."""
    return json_answer(wire.FoundNames(await chunks.find_names(state, caller, body)))


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()
