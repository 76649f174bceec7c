"""The calls for blocks: vectors of a scheme that encrypts many together, so that the service computes distances."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from xtrace_core import block_frames, wire
from xtrace_core.block_frames import BlockAnswer, FetchedBlock
from xtrace_core.frames import InvalidFrames
from xtrace_sdk.arguments import MetaFilter, Positive, checked_calls
from xtrace_sdk.errors import InvalidAnswer
from xtrace_sdk.http.transport import Answer
from xtrace_sdk.limits import MAX_COUNT_BYTES
from xtrace_sdk.service import payloads
from xtrace_sdk.service.private_fields import PrivacyChecked


@dataclass(frozen=True, slots=True)
class BlockSearch:
    """The answer to a search of blocks."""

    answer: BlockAnswer
    before: datetime
    """A moment on the service's clock shortly before it searched."""


@checked_calls
class BlockCalls(PrivacyChecked):
    """The calls of `XTraceIntegration` for blocks. Each call may raise `ServerError` and `NetworkError`."""

    async def plan_blocks(
        self,
        kb_id: str,
        context_id: str,
        meta_filter: MetaFilter | None = None,
        range_filter: Sequence[int] | None = None,
        *,
        listed: bool = False,
    ) -> wire.BlockPlan:
        """Returns how many candidates a search has, how many are in no block, and how many blocks have the others.

        With `listed` also all blocks of the context in the knowledge base. Raises `ContextNotFound`, and `NotFound` if
        the service does not support blocks.
        """
        payload = wire.PlanBlocks(
            kb_id=kb_id,
            context_id=context_id,
            meta_filter=None if meta_filter is None else payloads.meta_filter(meta_filter),
            id_range=payloads.id_range(range_filter),
            listed=listed,
        )
        plan = await self._service.data("POST", "block/plan", wire.BlockPlan, body=self._body(payload))
        sealed = plan.candidates - plan.unsealed
        if not 0 <= plan.blocks <= sealed <= plan.blocks * wire.MAX_BLOCK_SLOTS:
            raise InvalidAnswer("the server's numbers of candidates and blocks contradict each other")
        return plan

    async def search_blocks(
        self,
        kb_id: str,
        context_id: str,
        encrypt: Callable[[], Sequence[bytes]],
        slabs: Positive,
        meta_filter: MetaFilter | None = None,
        range_filter: Sequence[int] | None = None,
    ) -> BlockSearch:
        """Returns the values of all candidates in blocks for 1 to 8 queries, and the records of the others.

        `encrypt` returns the encrypted queries. It is called in a thread for each attempt, so that no query is answered
        twice: read the answer with the queries of the last call. `slabs` is the number of values of each vector. Raises
        `AnswerTooLarge`, `CiphertextRefused`, `ContextNotFound`.
        """
        sent = 0

        def body() -> bytes:
            nonlocal sent
            queries = list(encrypt())
            sent = len(queries)
            payload = wire.SearchBlocks(
                kb_id=kb_id,
                context_id=context_id,
                queries=queries,
                meta_filter=None if meta_filter is None else payloads.meta_filter(meta_filter),
                id_range=payloads.id_range(range_filter),
            )
            return payloads.encode_msgpack(self._checked(payload))

        began = time.monotonic()
        got = await self._service.octets("POST", "block/search", block_frames.MEDIA_TYPE, body_of_attempt=body)
        before = _answered_at(got) - timedelta(seconds=time.monotonic() - began)
        try:
            answer = await asyncio.to_thread(block_frames.read_answer, got.body, slabs, sent)
        except InvalidFrames as error:
            raise _unreadable(error) from None
        return BlockSearch(answer, before)

    async def get_blocks(
        self, kb_id: str, context_id: str, block_ids: Iterable[int], hint_bytes: Positive
    ) -> list[FetchedBlock]:
        """Returns what a client needs of these blocks to read their values, in this order, without removed ones.

        `hint_bytes` is the length of a block's hints. The parts are not authenticated yet.
        """
        found: list[FetchedBlock] = []
        for ids in payloads.in_batches(list(block_ids), wire.MAX_BLOCKS_READ):
            got = await self._service.octets(
                "GET", "block", block_frames.BLOCKS_MEDIA_TYPE, parameters=_selection(kb_id, context_id, ids)
            )
            try:
                blocks = await asyncio.to_thread(block_frames.read_fetched, got.body, hint_bytes)
            except InvalidFrames as error:
                raise _unreadable(error) from None
            asked = iter(ids)
            if not all(one.block_id in asked for one in blocks):  # `in` advances the iterator, so this checks the order
                raise InvalidAnswer("the server returned other blocks than those requested, or in a different order")
            found += blocks
        return found

    async def seal_block(
        self,
        kb_id: str,
        context_id: str,
        chunk_ids: Sequence[int],
        nonces: Sequence[bytes],
        header: bytes,
        hints: bytes,
        body: bytes,
        replaces: Sequence[int] = (),
    ) -> wire.SealedBlock:
        """Stores a block made of the vectors of these chunks with these nonces, by ascending id.

        A chunk that was changed since, or is in a block that is not in `replaces`, is not taken. Raises `Conflict` if
        fewer than three quarters are taken, or a block to replace is gone; then nothing is stored.
        """
        payload = wire.SealBlock(
            kb_id=kb_id,
            context_id=context_id,
            chunk_ids=payloads.chunk_ids(chunk_ids),
            nonces=list(nonces),
            header=header,
            hints=hints,
            body=body,
            replaces=list(replaces),
        )
        packed = await asyncio.to_thread(payloads.encode_msgpack, payload)
        return await self._service.store_packed("block", wire.SealedBlock, packed)

    async def unseal_blocks(self, kb_id: str, context_id: str, block_ids: Iterable[int]) -> int:
        """Removes blocks, and returns how many chunks are in no block because of that. No chunk is changed."""
        unsealed = 0
        for ids in payloads.in_batches(list(block_ids), wire.MAX_BLOCKS_CHANGED):
            answer = await self._service.data(
                "DELETE",
                "block",
                wire.UnsealedCount,
                parameters=_selection(kb_id, context_id, ids),
                max_bytes=MAX_COUNT_BYTES,
            )
            unsealed += answer.unsealed_count
        return unsealed


def _selection(kb_id: str, context_id: str, block_ids: Sequence[int]) -> list[tuple[str, str | int]]:
    return [("kb_id", kb_id), ("context_id", context_id), *[("block_ids", block_id) for block_id in block_ids]]


def _unreadable(error: InvalidFrames) -> InvalidAnswer:
    return InvalidAnswer(f"the server's answer cannot be read: {error}; search again")


def _answered_at(answer: Answer) -> datetime:
    """Returns the service's time, in whole seconds; this machine's if it does not say."""
    try:
        moment = parsedate_to_datetime(answer.headers.get("date", ""))
    except ValueError:
        return datetime.now(UTC)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
