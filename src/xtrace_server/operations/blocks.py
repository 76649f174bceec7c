"""Blocks: an index over the chunks of a context, which clients make, and searches of it."""

import asyncio
from collections.abc import Sequence
from itertools import pairwise

from xtrace_core import wire
from xtrace_core.schemes.interface import BlockEvaluation, Evaluation, InvalidCiphertext
from xtrace_server.auth.guard import ApiCaller
from xtrace_server.errors import CiphertextRefused, ContextNotFound, InvalidRequest
from xtrace_server.limits.filters import filtering
from xtrace_server.operations.evaluations import evaluation_of
from xtrace_server.operations.writing import frees_space, repeatable, writing
from xtrace_server.scope import SearchScope
from xtrace_server.search.blocks import BlockSearch, BlockTarget
from xtrace_server.state import ServerState
from xtrace_server.storage import blocks, contexts, sealing
from xtrace_server.storage.blocks import BlockParts
from xtrace_server.storage.candidates import Candidates
from xtrace_server.storage.chunks import Reserve
from xtrace_server.storage.database import Connection
from xtrace_server.storage.schema import MAX_CHUNK_ID
from xtrace_server.storage.sealing import BlockWrite
from xtrace_server.storage.targets import Target


async def plan(state: ServerState, caller: ApiCaller, scope: SearchScope, *, listed: bool) -> wire.BlockPlan:
    """Returns where the candidates in the scope are, and all blocks of the context if they are to be `listed`.

    Raises `KnowledgeBaseNotFound`, `ContextNotFound`, `FilterRefused`, and `InvalidRequest` for a scheme without
    blocks.
    """
    async with state.database.read(caller.organisation_id) as connection:
        target = await caller.target(connection, scope.kb_id, scope.context_id)
        _evaluations(state, target, scope.context_id)
        answer = wire.BlockPlan(candidates=0, unsealed=0, blocks=0, revision=target.grant.kb.revision)
        if listed:
            answer.listed = []
        if target.binding is None:
            return answer
        candidates = Candidates(target.grant.kb, target.binding, scope)
        async with filtering(state.settings, candidates):
            found = await blocks.plan(connection, candidates)
        answer.candidates, answer.unsealed, answer.blocks = found.candidates, found.unsealed, found.blocks
        if listed:
            answer.listed = [
                wire.ListedBlock(one.pk, one.count, one.live_count, one.dead_since)
                for one in await blocks.list_all(connection, target.binding)
            ]
    return answer


async def search(
    state: ServerState, caller: ApiCaller, scope: SearchScope, queries: Sequence[bytes], reserve: Reserve
) -> BlockSearch:
    """Returns a search with these queries over the chunks in the scope.

    Raises what `plan` raises, `InvalidRequest` for no queries or too many, `CiphertextRefused` and `Unavailable`.
    """

    if not 1 <= len(queries) <= wire.MAX_BLOCK_QUERIES:
        raise InvalidRequest(f"got {len(queries)} queries, expected 1 to {wire.MAX_BLOCK_QUERIES}")

    async def find(connection: Connection) -> BlockTarget:
        target = await caller.target(connection, scope.kb_id, scope.context_id)
        evaluation, of_blocks = _evaluations(state, target, scope.context_id)
        candidates = None if target.binding is None else Candidates(target.grant.kb, target.binding, scope)
        return BlockTarget(evaluation, of_blocks, candidates, target.grant.kb.revision)

    try:
        return await state.blocks.search(caller.organisation_id, find, queries, reserve)
    except InvalidCiphertext as error:
        raise CiphertextRefused(f"queries: {error}") from None


async def read(
    state: ServerState, caller: ApiCaller, kb_id: str, context_id: str, block_ids: Sequence[int]
) -> list[BlockParts]:
    """Returns those of the blocks that exist, in the order of the ids.

    Raises `KnowledgeBaseNotFound`, `ContextNotFound`, and `InvalidRequest` for a scheme without blocks.
    """
    async with state.database.read(caller.organisation_id) as connection:
        target = await caller.target(connection, kb_id, context_id)
        _evaluations(state, target, context_id)
        return await blocks.read_parts(connection, target.binding, block_ids) if target.binding else []


@repeatable
async def seal(state: ServerState, caller: ApiCaller, body: wire.SealBlock) -> wire.SealedBlock:
    """Stores a block; the same block again changes nothing.

    Raises `KnowledgeBaseNotFound`, `ContextNotFound`, `ContextRetired`, `CiphertextRefused`, `InvalidRequest`,
    `BlockOutdated` and `QuotaExceeded`.
    """
    _check_slots(body)
    async with state.database.read(caller.organisation_id) as connection:
        kb = await caller.knowledge_base(connection, body.kb_id)
        context = await contexts.get_for_writing(connection, caller.organisation_id, body.context_id)
    evaluation = evaluation_of(state.schemes, context.data.type, context.data.pk)
    write = await asyncio.to_thread(_checked, _blocks_of(evaluation, context.data.type), body)
    async with writing(state, caller) as connection:
        kb = await caller.locked(connection, kb.id)
        binding = await contexts.bind(connection, kb, context)
        done = await sealing.seal(connection, kb, binding, write)
    state.metrics.blocks_sealed.inc()
    return wire.SealedBlock(done.block_pk, done.live_count)


@repeatable
@frees_space
async def remove(state: ServerState, caller: ApiCaller, kb_id: str, context_id: str, block_ids: Sequence[int]) -> int:
    """Removes blocks, ignoring unknown ones; returns the number of chunks that were in them, and are in none now.

    Each block is removed in a transaction of its own, so that others write in between. Raises
    `KnowledgeBaseNotFound` and `ContextNotFound`.
    """
    async with state.database.read(caller.organisation_id) as connection:
        kb = await caller.knowledge_base(connection, kb_id)
        context = await contexts.get(connection, caller.organisation_id, context_id)
        binding = await contexts.find_binding(connection, kb, context)
    unsealed = 0
    for block_id in block_ids if binding is not None else ():
        async with writing(state, caller) as connection:
            kb = await caller.locked(connection, kb.id)
            if binding is not None:
                unsealed += await sealing.unseal(connection, kb, binding, [block_id])
    state.clearing.tell()
    return unsealed


def _evaluations(state: ServerState, target: Target, context_id: str) -> tuple[Evaluation, BlockEvaluation]:
    """Returns what the service can compute for the target's context. Raises `ContextNotFound` and `InvalidRequest`."""
    if target.public is None:
        raise ContextNotFound(context_id)
    evaluation = evaluation_of(state.schemes, *target.public)
    return evaluation, _blocks_of(evaluation, target.public[0])


def _blocks_of(evaluation: Evaluation, type_: str) -> BlockEvaluation:
    if evaluation.blocks is None:
        raise InvalidRequest(f"the context is of the type {type_}, which does not have blocks: search with records")
    return evaluation.blocks


def _check_slots(body: wire.SealBlock) -> None:
    """Raises `InvalidRequest` unless the chunks of the slots are different and as many as the nonces."""
    if len(body.chunk_ids) != len(body.nonces):
        raise InvalidRequest(
            f"got {len(body.chunk_ids)} chunk_ids but {len(body.nonces)} nonces; the counts must match"
        )
    if body.chunk_ids[0] < 1 or any(one >= other for one, other in pairwise(body.chunk_ids)):
        raise InvalidRequest("chunk_ids are not ascending from 1 at least, expected each chunk once, in order")
    if body.chunk_ids[-1] > MAX_CHUNK_ID:
        raise InvalidRequest(f"chunk_ids has {body.chunk_ids[-1]}, expected at most {MAX_CHUNK_ID}")


def _checked(evaluation: BlockEvaluation, body: wire.SealBlock) -> BlockWrite:
    """Checks the parts of a block, which takes milliseconds. Raises `CiphertextRefused`."""
    try:
        evaluation.check_block(body.header, body.hints, body.body)
        summary = evaluation.summary(body.header)
    except InvalidCiphertext as error:
        raise CiphertextRefused(str(error)) from None
    if summary.count != len(body.chunk_ids):
        raise CiphertextRefused(
            f"the block's header says that it has {summary.count} vectors, expected {len(body.chunk_ids)}, the number "
            "of chunk_ids"
        )
    return BlockWrite(
        chunk_ids=body.chunk_ids,
        nonces=body.nonces,
        replaces=frozenset(body.replaces),
        header=body.header,
        hints=body.hints,
        body=body.body,
        sha256=summary.sha256,
    )
