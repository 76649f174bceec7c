"""The encrypted search: the products of the candidates' ciphertexts with the queries', streamed."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse

from xtrace_core import frames, wire
from xtrace_core.schemes.interface import InvalidCiphertext
from xtrace_server.auth.guard import READER, ApiCaller, requires
from xtrace_server.errors import CiphertextRefused
from xtrace_server.http.answers import evaluation
from xtrace_server.http.bodies import body_of
from xtrace_server.http.described import describes
from xtrace_server.http.requests import ApiCallerDep, StateDep, meta_filter
from xtrace_server.limits.sizes import check_count, check_query
from xtrace_server.search.answers import AnswerForm, FramedAnswer, MessagePackAnswer
from xtrace_server.search.engine import Candidates, Search
from xtrace_server.state import ServerState
from xtrace_server.storage import contexts
from xtrace_server.storage.knowledge_bases import KnowledgeBase
from xtrace_server.storage.schema import MAX_CHUNK_ID, chunk_pk

router = APIRouter(prefix="/v1")


@router.post("/compute_hamming/{org}")
@requires(READER)
@describes(None, media_types=(wire.MSGPACK, frames.MEDIA_TYPE))
async def compute_hamming(
    request: Request,
    state: StateDep,
    caller: ApiCallerDep,
    body: Annotated[wire.ComputeHamming, Depends(body_of(wire.ComputeHamming))],
) -> Response:
    """A MessagePack array of `[[ciphertext, …], chunk_id, nonce or nil]`, by ascending chunk id; or, for a client that
    accepts it, the same in frames.
    """
    search = await _prepared(state, caller, body, [body.query], "query")
    framed = frames.MEDIA_TYPE in request.headers.get("accept", "")
    return await _streamed(search, (FramedAnswer if framed else MessagePackAnswer)(*search.answer_shape))


@router.post("/compute_hamming_batch/{org}")
@requires(READER)
@describes(None, media_types=(frames.MEDIA_TYPE,))
async def compute_hamming_batch(
    state: StateDep,
    caller: ApiCallerDep,
    body: Annotated[wire.ComputeHammingBatch, Depends(body_of(wire.ComputeHammingBatch))],
) -> Response:
    """The answers to several queries in one pass over the candidates, in frames."""
    search = await _prepared(state, caller, body, body.queries, "queries")
    return await _streamed(search, FramedAnswer(*search.answer_shape))


async def _prepared(
    state: ServerState,
    caller: ApiCaller,
    body: wire.ComputeHamming | wire.ComputeHammingBatch,
    queries: Sequence[Sequence[bytes]],
    field: str,
) -> Search:
    check_count(state.settings, "max_queries", queries, "queries")
    for query in queries:
        check_query(state.settings, query)
    filter_ = meta_filter(state.settings, body.meta_filter)
    async with AsyncExitStack() as transaction:
        connection = await transaction.enter_async_context(state.database.read())
        kb = await caller.knowledge_base(connection, body.kb_id)
        context = await contexts.get(connection, caller.organisation_id, body.context_id)
        binding = await contexts.find_binding(connection, kb, context)
        candidates = None
        if binding is not None:
            first_pk, last_pk = _pk_range(kb, body.id_range)
            candidates = Candidates(kb=kb, binding=binding, filter_=filter_, first_pk=first_pk, last_pk=last_pk)
        by = evaluation(state.schemes, context.data.type, context.data.pk)
        try:
            return await state.engine.prepare(connection, transaction, by, queries, candidates)
        except InvalidCiphertext as error:
            raise CiphertextRefused(f"{field}: {error}") from None


async def _streamed(search: Search, form: AnswerForm) -> Response:
    # Nothing waits for the client any more. The first block comes before the status is sent.
    blocks = search.blocks(form)
    first = await anext(blocks, b"")

    async def stream() -> AsyncIterator[bytes]:
        yield form.head(search.count) + first
        async for block in blocks:
            yield block
        yield form.end()

    return StreamingResponse(stream(), media_type=form.media_type, headers={"vary": "accept"})


def _pk_range(kb: KnowledgeBase, id_range: tuple[int, int] | None) -> tuple[int, int]:
    """The keys of the ids in the range; the second is the smaller one if there is none."""
    if id_range is None:
        return kb.first_pk, kb.last_pk
    first, last = (min(max(chunk_id, 0), MAX_CHUNK_ID) for chunk_id in id_range)
    if id_range[1] < 0 or id_range[0] > MAX_CHUNK_ID:
        return chunk_pk(kb.pk, 1), chunk_pk(kb.pk, 0)
    return chunk_pk(kb.pk, first), chunk_pk(kb.pk, last)
