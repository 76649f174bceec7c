"""The encrypted search: the products of the candidates' ciphertexts with the query's, streamed."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Response
from fastapi.responses import StreamingResponse

from xtrace_core import wire
from xtrace_core.evaluation import InvalidCiphertext
from xtrace_server.api.answers import evaluation
from xtrace_server.api.requests import ApiCallerDep, ServiceDep, body_of, meta_filter
from xtrace_server.auth.guard import READER, requires
from xtrace_server.errors import CiphertextInvalid
from xtrace_server.search.engine import Candidates, Search, array_header
from xtrace_server.storage import contexts
from xtrace_server.storage.knowledge_bases import KnowledgeBase
from xtrace_server.storage.schema import MAX_CHUNK_ID, chunk_pk

router = APIRouter(prefix="/v1")


@router.post("/compute_hamming/{org}")
@requires(READER)
async def compute_hamming(
    service: ServiceDep,
    caller: ApiCallerDep,
    body: Annotated[wire.ComputeHamming, Depends(body_of(wire.ComputeHamming))],
) -> Response:
    """A MessagePack array of `[[ciphertext, …], chunk_id, nonce or nil]`, by ascending chunk id."""
    filter_ = meta_filter(body.meta_filter)
    async with service.database.read() as connection:
        kb = await caller.knowledge_base(connection, body.kb_id)
        context = await contexts.get(connection, caller.organisation_id, body.context_id)
        binding = await contexts.find_binding(connection, kb, context)
        candidates = None
        if binding is not None:
            first_pk, last_pk = _pk_range(kb, body.id_range)
            candidates = Candidates(kb=kb, binding=binding, filter_=filter_, first_pk=first_pk, last_pk=last_pk)
        by = evaluation(context.data.type, context.data.pk)
        try:
            search = await service.engine.prepare(connection, by, body.query, candidates)
        except InvalidCiphertext as error:
            raise CiphertextInvalid(f"query: {error}") from None
    # The transaction is over; what follows reads arrays. The first block comes before the status is sent.
    blocks = search.blocks()
    first = await anext(blocks, b"")
    return StreamingResponse(_stream(search, first, blocks), media_type=wire.MSGPACK)


async def _stream(search: Search, first: bytes, blocks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield array_header(search.count) + first
    async for block in blocks:
        yield block


def _pk_range(kb: KnowledgeBase, id_range: tuple[int, int] | None) -> tuple[int, int]:
    """The keys of the ids in the range; the second is the smaller one if there is none."""
    if id_range is None:
        return kb.first_pk, kb.last_pk
    first, last = (min(max(chunk_id, 0), MAX_CHUNK_ID) for chunk_id in id_range)
    if id_range[1] < 0 or id_range[0] > MAX_CHUNK_ID:
        return chunk_pk(kb.pk, 1), chunk_pk(kb.pk, 0)
    return chunk_pk(kb.pk, first), chunk_pk(kb.pk, last)
