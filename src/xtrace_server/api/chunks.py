"""Chunks: insert, get, update, patch, delete by id, and the look-up of names."""

import asyncio
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Request, Response
from msgspec import UNSET
from sqlalchemy.ext.asyncio import AsyncConnection

from xtrace_core import wire
from xtrace_core.metadata import normalised
from xtrace_core.schemes.interface import Evaluation, InvalidCiphertext
from xtrace_server.api.reading import json_pieces, read_chunks
from xtrace_server.auth.guard import DELETER, READER, WRITER, requires
from xtrace_server.errors import CiphertextRefused, InvalidRequest, TooLarge
from xtrace_server.http.answers import EVERYTHING, evaluation, json_answer, projection
from xtrace_server.http.bodies import body_of
from xtrace_server.http.described import CHUNK_IDS, KB_ID, Parameter, describes
from xtrace_server.http.requests import (
    ApiCallerDep,
    StateDep,
    distinct,
    idempotency_key,
    query_chunk_ids,
    query_string,
    query_strings,
)
from xtrace_server.limits.sizes import check_chunks, check_count, check_projection
from xtrace_server.settings import Settings
from xtrace_server.state import ServerState
from xtrace_server.storage import chunk_writes, chunks, contexts, idempotency, knowledge_bases
from xtrace_server.storage.chunk_writes import ChunkChange, ChunkWrite
from xtrace_server.storage.contexts import Binding, Context
from xtrace_server.storage.knowledge_bases import KnowledgeBase
from xtrace_server.storage.schema import chunk_id_of, chunk_pk

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
    """Stores chunks under new ids, all or none."""
    key = idempotency_key(request)
    body_hash = await asyncio.to_thread(_digest, request.state.body) if key else b""
    async with state.database.read() as connection:
        kb = await caller.knowledge_base(connection, body.kb_id)
        if key and (known := await idempotency.find_answer(connection, caller.key.hash, key, body_hash)):
            return Response(known, media_type="application/json")
        context = await contexts.get(connection, caller.organisation_id, body.context_id)
    writes = await _checked(state, context, body.chunks, "chunks")
    async with state.database.write() as connection:
        # Once more, inside the transaction: the first request may have been answered in the meantime.
        if key and (known := await idempotency.find_answer(connection, caller.key.hash, key, body_hash)):
            return Response(known, media_type="application/json")
        kb, binding = await _bound(state, connection, kb, context, writes, "chunks")
        chunk_ids = await chunk_writes.insert_all(connection, kb, binding, writes)
        answer = msgspec.json.encode(wire.InsertedChunks(chunk_ids))
        if key:
            await idempotency.keep_answer(connection, caller.key.hash, key, body_hash, answer)
    return Response(answer, media_type="application/json")


@router.get("/{org}")
@requires(READER)
@describes(
    list[wire.Chunk],
    KB_ID,
    CHUNK_IDS,
    Parameter("projection", {"type": "array", "items": {"enum": sorted(wire.PROJECTION_FIELDS)}}),
)
async def get(request: Request, state: StateDep, caller: ApiCallerDep) -> Response:
    """The chunks with the ids asked for, in that order; unknown ids are left out."""
    kb_id, chunk_ids = query_string(request, "kb_id"), query_chunk_ids(request)
    names = query_strings(request, "projection")
    check_projection(state.settings, names)
    shown = projection(names) if names else EVERYTHING
    async with state.database.read() as connection:
        kb = await caller.knowledge_base(connection, kb_id)
        pks = [pk for chunk_id in chunk_ids if (pk := chunks.pk_of(kb, chunk_id)) is not None]
        found = await read_chunks(connection, state.schemes, pks, shown)
    return json_pieces(found)


@router.put("/{org}")
@requires(WRITER)
@describes(wire.UpdatedCount, statuses=(409,))
async def update(
    state: StateDep,
    caller: ApiCallerDep,
    body: Annotated[wire.UpdateChunks, Depends(body_of(wire.UpdateChunks))],
) -> Response:
    """Replaces all that chunks hold, and moves them to the given context, all or none."""
    check_count(state.settings, "max_chunks", body.chunk_updates, "chunks")
    chunk_ids = distinct([one.chunk_id for one in body.chunk_updates], "chunk_updates")
    async with state.database.read() as connection:
        kb = await caller.knowledge_base(connection, body.kb_id)
        context = await contexts.get(connection, caller.organisation_id, body.context_id)
        await chunks.existing_bindings(connection, kb, chunk_ids)
    writes = await _checked(state, context, body.chunk_updates, "chunk_updates")
    async with state.database.write() as connection:
        kb, binding = await _bound(state, connection, kb, context, writes, "chunk_updates")
        await chunks.check_unchanged(connection, _conditions(kb, body.chunk_updates))
        by_pk = {chunk_pk(kb.pk, i): write for i, write in zip(chunk_ids, writes, strict=True)}
        await chunk_writes.replace_all(connection, kb, binding, by_pk)
    return json_answer(wire.UpdatedCount(len(writes)))


@router.patch("/{org}")
@requires(WRITER)
@describes(wire.UpdatedCount, statuses=(409,))
async def patch(
    state: StateDep,
    caller: ApiCallerDep,
    body: Annotated[wire.PatchChunks, Depends(body_of(wire.PatchChunks))],
) -> Response:
    """Changes the fields that are named, all or none. Chunks stay under their context."""
    check_count(state.settings, "max_chunks", body.chunk_patches, "chunks")
    chunk_ids = distinct([one.chunk_id for one in body.chunk_patches], "chunk_patches")
    async with state.database.read() as connection:
        kb = await caller.knowledge_base(connection, body.kb_id)
        await chunks.existing_bindings(connection, kb, chunk_ids)
        context = None
        if any(one.index is not UNSET for one in body.chunk_patches):
            context = await contexts.get(connection, caller.organisation_id, body.context_id)
    changes = await asyncio.to_thread(_changes, state, kb, context, body.chunk_patches)
    async with state.database.write() as connection:
        kb = await knowledge_bases.lock(connection, kb)
        await chunks.check_unchanged(connection, _conditions(kb, body.chunk_patches))
        stored = await chunks.existing_bindings(connection, kb, chunk_ids)
        bindings = await contexts.bindings(connection, set(stored.values()))
        await contexts.check_not_retired(connection, {one.context_pk for one in bindings.values()})
        if context is not None:
            await _check_patched_vectors(state, connection, kb, context, stored, changes)
        await chunk_writes.change_all(connection, kb, changes)
    return json_answer(wire.UpdatedCount(len(changes)))


@router.delete("/{org}")
@requires(DELETER)
@describes(wire.DeletedCount, KB_ID, CHUNK_IDS)
async def delete(request: Request, state: StateDep, caller: ApiCallerDep) -> Response:
    """Deletes the chunks with these ids; unknown ones are ignored."""
    kb_id, chunk_ids = query_string(request, "kb_id"), query_chunk_ids(request)
    async with state.database.read() as connection:
        kb = await caller.knowledge_base(connection, kb_id)
    async with state.database.write() as connection:
        kb = await knowledge_bases.lock(connection, kb)
        pks = [pk for chunk_id in chunk_ids if (pk := chunks.pk_of(kb, chunk_id)) is not None]
        removed = await chunk_writes.remove(connection, kb, pks)
    return json_answer(wire.DeletedCount(removed))


@router.post("/names/{org}")
@requires(READER)
@describes(wire.FoundNames)
async def find_names(
    state: StateDep,
    caller: ApiCallerDep,
    body: Annotated[wire.FindNames, Depends(body_of(wire.FindNames))],
) -> Response:
    """Which of the names are stored under the context."""
    check_count(state.settings, "max_ids", body.names, "names")
    found: dict[str, int] = {}
    async with state.database.read() as connection:
        kb = await caller.knowledge_base(connection, body.kb_id)
        context = await contexts.find(connection, caller.organisation_id, body.context_id)
        binding = await contexts.find_binding(connection, kb, context) if context else None
        if binding:
            found = await chunks.find_names(connection, binding, body.names)
    return json_answer(wire.FoundNames(found))


async def _checked(
    state: ServerState, context: Context, sent: Sequence[wire.NewChunk | wire.ChunkUpdate], field: str
) -> list[ChunkWrite]:
    """What to store for the chunks, every size and ciphertext checked, in a thread.

    Raises `TooLarge` and `InvalidRequest`.
    """
    by = evaluation(state.schemes, context.data.type, context.data.pk)

    def check() -> list[ChunkWrite]:
        check_chunks(state.settings, sent, field)
        rows = _rows(state.settings, by, enumerate(one.index for one in sent), field)
        return [
            ChunkWrite(
                content=one.chunk_content,
                row=row,
                meta_data=normalised(one.meta_data),
                name=one.name or "",
                nonce=one.nonce,
            )
            for one, row in zip(sent, rows, strict=True)
        ]

    return await asyncio.to_thread(check)


def _conditions(kb: KnowledgeBase, sent: Sequence[wire.ChunkUpdate | wire.ChunkPatch]) -> dict[int, str]:
    """By the keys of the chunks that are only to be written if nobody else did since, when they were written last."""
    return {chunk_pk(kb.pk, one.chunk_id): one.if_updated_at for one in sent if isinstance(one.if_updated_at, str)}


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()


def _rows(
    settings: Settings, by: Evaluation, indexes: Iterable[tuple[int, list[bytes]]], field: str
) -> Iterator[bytes]:
    """The indexes, by the numbers of their chunks, as they are stored. Raises `CiphertextRefused` and `TooLarge`."""
    free = settings.max_body_bytes
    for i, index in indexes:
        try:
            row = by.row(index)
        except InvalidCiphertext as error:
            raise CiphertextRefused(f"{field}[{i}].index: {error}") from None
        # Stored, a ciphertext has the full width: a million tiny numbers are no million ciphertexts.
        free -= len(row)
        if free < 0:
            raise TooLarge(
                f"the ciphertexts of the request need more than {settings.max_body_bytes} bytes at their full width "
                "(max_body_bytes): send fewer"
            )
        yield row


async def _bound(
    state: ServerState,
    connection: AsyncConnection,
    kb: KnowledgeBase,
    context: Context,
    writes: Sequence[ChunkWrite],
    field: str,
) -> tuple[KnowledgeBase, Binding]:
    """The knowledge base, locked, and its binding for these rows. Raises `CiphertextRefused` and `ContextRetired`."""
    kb = await knowledge_bases.lock(connection, kb)
    await contexts.check_not_retired(connection, [context.pk])
    binding = await contexts.bind(connection, kb, context)
    if writes:
        binding = await contexts.fix_row_bytes(connection, binding, len(writes[0].row))
    by = evaluation(state.schemes, context.data.type, context.data.pk)
    for i, write in enumerate(writes):
        _check_width(by, binding, write.row, f"{field}[{i}]")
    return kb, binding


def _check_width(by: Evaluation, binding: Binding, row: bytes, where: str) -> None:
    if binding.row_bytes is not None and len(row) != binding.row_bytes:
        raise CiphertextRefused(
            f"{where}.index has {len(by.index(row))} ciphertexts, expected {len(by.index(bytes(binding.row_bytes)))} "
            "as in the first index of this context in the knowledge base"
        )


def _changes(
    state: ServerState, kb: KnowledgeBase, context: Context | None, patches: Sequence[wire.ChunkPatch]
) -> list[ChunkChange]:
    check_chunks(state.settings, patches, "chunk_patches")
    rows: dict[int, bytes] = {}
    if context is not None:
        by = evaluation(state.schemes, context.data.type, context.data.pk)
        indexes = {i: one.index for i, one in enumerate(patches) if one.index is not UNSET}
        rows = dict(zip(indexes, _rows(state.settings, by, indexes.items(), "chunk_patches"), strict=True))
    return [
        ChunkChange(
            pk=chunk_pk(kb.pk, one.chunk_id),
            content=one.chunk_content,
            row=rows.get(i, UNSET),
            nonce=one.nonce,
            name=one.name or "" if one.name is not UNSET else UNSET,
            meta_data=wire.MetaData() if one.meta_data is UNSET else one.meta_data,
        )
        for i, one in enumerate(patches)
    ]


async def _check_patched_vectors(
    state: ServerState,
    connection: AsyncConnection,
    kb: KnowledgeBase,
    context: Context,
    stored: Mapping[int, int],
    changes: Sequence[ChunkChange],
) -> None:
    """A vector that a patch brings must be one of the chunk's own context, which only an update changes.

    `stored` has the key of the binding for each of the chunk ids.
    """
    binding = await contexts.find_binding(connection, kb, context)
    by = evaluation(state.schemes, context.data.type, context.data.pk)
    for i, change in enumerate(changes):
        if change.row is UNSET:
            continue
        chunk_id = chunk_id_of(change.pk)
        if binding is None or stored[chunk_id] != binding.pk:
            raise InvalidRequest(
                f"chunk_patches[{i}].index: chunk {chunk_id} is stored under another context than context_id; "
                "an update (PUT) moves it"
            )
        _check_width(by, binding, change.row, f"chunk_patches[{i}]")
