"""The encrypted search, streamed."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from xtrace_core import frames, wire
from xtrace_server.auth.guard import READER, requires
from xtrace_server.http.answers import StreamedAnswer
from xtrace_server.http.bodies import body_of
from xtrace_server.http.described import describes
from xtrace_server.http.direct import DirectRoute
from xtrace_server.http.requests import ApiCallerDep, RunningDep, StateDep, scope_of
from xtrace_server.http.search_answers import FramedAnswer, MessagePackAnswer
from xtrace_server.limits.in_flight import RunningRequest
from xtrace_server.operations.search import search
from xtrace_server.search.interface import AnswerForm
from xtrace_server.search.running import BLOCK_BYTES, Search

router = APIRouter(prefix="/v1", route_class=DirectRoute)

_UNREAD_BLOCKS = 2
"""The number of blocks of an answer that are buffered while its client does not read."""


@router.post("/compute_hamming/{org}")
@requires(READER)
@describes(None, media_types=(wire.MSGPACK, frames.MEDIA_TYPE))
async def compute_hamming(
    request: Request,
    state: StateDep,
    caller: ApiCallerDep,
    running: RunningDep,
    body: Annotated[wire.ComputeHamming, Depends(body_of(wire.ComputeHamming))],
) -> Response:
    """Returns a MessagePack array of `[[ciphertext, …], chunk_id, nonce or nil]` by ascending chunk id or, for a client
    that accepts frames, the same in frames.
    """
    scope = scope_of(state.settings, body)
    found = await search(state, caller, scope, [body.query], "query", running.reserve_keys)
    framed = frames.MEDIA_TYPE in request.headers.get("accept", "")
    return await _streamed(running, found, (FramedAnswer if framed else MessagePackAnswer)(*found.answer_shape))


@router.post("/compute_hamming_batch/{org}")
@requires(READER)
@describes(None, media_types=(frames.MEDIA_TYPE,))
async def compute_hamming_batch(
    state: StateDep,
    caller: ApiCallerDep,
    running: RunningDep,
    body: Annotated[wire.ComputeHammingBatch, Depends(body_of(wire.ComputeHammingBatch))],
) -> Response:
    """Returns the answers to several queries, computed in one pass over the candidates, in frames."""
    scope = scope_of(state.settings, body)
    found = await search(state, caller, scope, body.queries, "queries", running.reserve_keys)
    return await _streamed(running, found, FramedAnswer(*found.answer_shape))


async def _streamed(running: RunningRequest, found: Search, form: AnswerForm) -> Response:
    await running.take("answers", min(found.answer_bytes, _UNREAD_BLOCKS * BLOCK_BYTES))
    # The transaction is over or runs in a separate task, so nothing waits for the client.
    # The first block comes before the status is sent.
    blocks = found.blocks(form)
    first = await anext(blocks, b"")

    async def stream() -> AsyncIterator[bytes]:
        yield form.head(found.count) + first
        async for block in blocks:
            yield block
        yield form.end()

    return StreamedAnswer(stream(), media_type=form.media_type, headers={"vary": "accept"})
