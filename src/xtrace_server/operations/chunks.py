"""Chunks by their ids: insert, read, update, patch, delete, and look up by name."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence

import msgspec
from msgspec import UNSET

from xtrace_core import wire
from xtrace_server.auth.guard import ApiCaller
from xtrace_server.errors import InvalidRequest
from xtrace_server.limits.sizes import check_chunks, check_count
from xtrace_server.operations.evaluations import evaluation_of
from xtrace_server.operations.projections import Projection
from xtrace_server.operations.reading import ChunkSink, Reader, read_chunks
from xtrace_server.operations.rows import check_width, rows_of
from xtrace_server.operations.writing import frees_space, repeatable, writing
from xtrace_server.state import ServerState
from xtrace_server.storage import chunk_writes, chunks, contexts, idempotency
from xtrace_server.storage.chunk_writes import ChunkChange, ChunkWrite
from xtrace_server.storage.contexts import Binding, Context
from xtrace_server.storage.database import Connection
from xtrace_server.storage.idempotency import RequestKey
from xtrace_server.storage.knowledge_bases import KnowledgeBase
from xtrace_server.storage.schema import chunk_id_of, chunk_pk


@repeatable
async def insert(
    state: ServerState, caller: ApiCaller, body: wire.InsertChunks, key: RequestKey | None
) -> wire.InsertedChunks:
    """Stores chunks under new ids: all or none. A repeated request that was already answered stores nothing.

    With `on_conflict`, names are unique, and it decides about a chunk whose name exists. Raises
    `KnowledgeBaseNotFound`, `ContextNotFound`, `ContextRetired`, `CiphertextRefused`, `TooLarge`, `LimitExceeded`,
    `InvalidRequest`, `NamesTaken` and `IdempotencyKeyReused`.
    """
    if body.on_conflict is not None:
        _check_names(body.chunks)
    async with state.database.read(caller.organisation_id) as connection:
        kb = await caller.knowledge_base(connection, body.kb_id)
        if (known := await _known_answer(connection, key)) is not None:
            return known
        context = await contexts.get_for_writing(connection, caller.organisation_id, body.context_id)
    writes = await _writes(state, context, body.chunks, "chunks")
    async with writing(state, caller) as connection:
        kb = await caller.locked(connection, kb.id)
        # Check again now that no other write of the knowledge base is running: it may have been this request's.
        if (known := await _known_answer(connection, key)) is not None:
            return known
        binding = await _bound(state, connection, kb, context, writes, "chunks")
        answer = await _inserted(connection, kb, binding, writes, body.on_conflict)
        if key is not None:
            await idempotency.keep_answer(connection, key, msgspec.json.encode(answer))
    state.figures.add(caller.organisation_id, written=len(body.chunks))
    return answer


async def read(
    state: ServerState, caller: Reader, kb_id: str, chunk_ids: Iterable[int], shown: Projection, sink: ChunkSink
) -> None:
    """Passes the chunks with these ids to the sink, in this order; unknown ids are omitted.

    Raises `KnowledgeBaseNotFound`.
    """
    async with state.database.read(caller.organisation_id) as connection:
        kb = await caller.knowledge_base(connection, kb_id)
        pks = [pk for chunk_id in chunk_ids if (pk := chunks.pk_of(kb, chunk_id)) is not None]
        await read_chunks(connection, state.schemes, pks, shown, sink)
    if isinstance(caller, ApiCaller):
        state.figures.add(caller.organisation_id, fetched=len(pks))


@repeatable
async def update(state: ServerState, caller: ApiCaller, body: wire.UpdateChunks) -> int:
    """Replaces chunks, and moves them to the given context: all or none. Returns their number.

    Raises what `insert` raises, `ChunksNotFound` and `ChunksChanged`.
    """
    check_count(state.settings, "max_chunks", body.chunk_updates, "chunks")
    chunk_ids = [one.chunk_id for one in body.chunk_updates]
    _check_distinct(chunk_ids, "chunk_updates")
    async with state.database.read(caller.organisation_id) as connection:
        kb = await caller.knowledge_base(connection, body.kb_id)
        context = await contexts.get_for_writing(connection, caller.organisation_id, body.context_id)
        await chunks.existing_bindings(connection, kb, chunk_ids)
    writes = await _writes(state, context, body.chunk_updates, "chunk_updates")
    async with writing(state, caller) as connection:
        kb = await caller.locked(connection, kb.id)
        binding = await _bound(state, connection, kb, context, writes, "chunk_updates")
        await chunks.check_unchanged(connection, _conditions(kb, body.chunk_updates))
        by_pk = {chunk_pk(kb.pk, i): write for i, write in zip(chunk_ids, writes, strict=True)}
        await chunk_writes.replace_all(connection, kb, binding, by_pk)
    return len(writes)


@repeatable
async def patch(state: ServerState, caller: ApiCaller, body: wire.PatchChunks) -> int:
    """Changes the given fields of chunks, which stay under their context: all or none. Returns their number.

    Raises what `update` raises.
    """
    check_count(state.settings, "max_chunks", body.chunk_patches, "chunks")
    chunk_ids = [one.chunk_id for one in body.chunk_patches]
    _check_distinct(chunk_ids, "chunk_patches")
    async with state.database.read(caller.organisation_id) as connection:
        kb = await caller.knowledge_base(connection, body.kb_id)
        await chunks.existing_bindings(connection, kb, chunk_ids)
        context = None
        if any(one.index is not UNSET for one in body.chunk_patches):
            context = await contexts.get(connection, caller.organisation_id, body.context_id)
    changes = await asyncio.to_thread(_changes, state, kb, context, body.chunk_patches)
    async with writing(state, caller) as connection:
        kb = await caller.locked(connection, kb.id)
        await chunks.check_unchanged(connection, _conditions(kb, body.chunk_patches))
        stored = await chunks.existing_bindings(connection, kb, chunk_ids)
        bindings = await contexts.bindings(connection, set(stored.values()))
        await contexts.check_not_retired(connection, {one.context_pk for one in bindings.values()})
        if context is not None:
            await _check_patched_vectors(state, connection, kb, context, stored, changes)
        await chunk_writes.change_all(connection, kb, changes)
    return len(changes)


@repeatable
@frees_space
async def delete(state: ServerState, caller: ApiCaller, kb_id: str, chunk_ids: Iterable[int]) -> int:
    """Deletes the chunks with these ids, ignoring unknown ones. Returns the number of deleted chunks.

    Raises `KnowledgeBaseNotFound`.
    """
    async with state.database.read(caller.organisation_id) as connection:
        kb = await caller.knowledge_base(connection, kb_id)
    async with writing(state, caller) as connection:
        kb = await caller.locked(connection, kb.id)
        pks = [pk for chunk_id in chunk_ids if (pk := chunks.pk_of(kb, chunk_id)) is not None]
        removed = await chunk_writes.remove(connection, kb, pks)
    state.engine.note_removal(kb, removed)
    state.clearing.tell()
    return len(removed)


async def find_names(state: ServerState, caller: ApiCaller, body: wire.FindNames) -> dict[str, int]:
    """Returns, for each name that is stored under the context, the smallest id of a chunk with that name.

    Raises `KnowledgeBaseNotFound` and `TooLarge`.
    """
    check_count(state.settings, "max_ids", body.names, "names")
    async with state.database.read(caller.organisation_id) as connection:
        kb = await caller.knowledge_base(connection, body.kb_id)
        binding = await contexts.binding_of(connection, caller.organisation_id, kb, body.context_id)
        return await chunks.find_names(connection, binding, body.names) if binding else {}


async def _inserted(
    connection: Connection,
    kb: KnowledgeBase,
    binding: Binding,
    writes: Sequence[ChunkWrite],
    on_conflict: wire.OnConflict | None,
) -> wire.InsertedChunks:
    if on_conflict is None:
        return wire.InsertedChunks(await chunk_writes.insert_all(connection, kb, binding, writes))
    done = await chunk_writes.insert_unique(connection, kb, binding, writes, on_conflict)
    return wire.InsertedChunks([chunk_id for chunk_id, _ in done], [outcome for _, outcome in done])


def _check_names(sent: Iterable[wire.NewChunk]) -> None:
    """Raises `InvalidRequest` for a name that cannot be unique."""
    seen: set[str] = set()
    for i, one in enumerate(sent):
        if not one.name:
            raise InvalidRequest(f"chunks[{i}].name is missing or empty, expected a name, because on_conflict is given")
        if one.name in seen:
            raise InvalidRequest(
                f"chunks[{i}].name occurs twice in the request, expected unique names with on_conflict"
            )
        seen.add(one.name)


async def _known_answer(connection: Connection, key: RequestKey | None) -> wire.InsertedChunks | None:
    answer = None if key is None else await idempotency.find_answer(connection, key)
    return None if answer is None else msgspec.json.decode(answer, type=wire.InsertedChunks)


def _check_distinct(chunk_ids: Iterable[int], field: str) -> None:
    """Raises `InvalidRequest` if a chunk is written twice, because the outcome would depend on the order."""
    seen: set[int] = set()
    for i, chunk_id in enumerate(chunk_ids):
        if chunk_id in seen:
            raise InvalidRequest(f"{field}[{i}].chunk_id occurs twice in the request, expected each chunk once")
        seen.add(chunk_id)


async def _writes(
    state: ServerState, context: Context, sent: Sequence[wire.NewChunk | wire.ChunkUpdate], field: str
) -> list[ChunkWrite]:
    """Checks every size and ciphertext in a thread, and returns what to store."""
    evaluation = evaluation_of(state.schemes, context.data.type, context.data.pk)

    def checked() -> list[ChunkWrite]:
        check_chunks(state.settings, sent, field)
        rows = rows_of(state.settings, evaluation, enumerate(one.index for one in sent), field)
        return [
            ChunkWrite(
                content=one.chunk_content,
                row=row,
                meta_data=one.meta_data or wire.MetaData(),
                name=one.name or "",
                nonce=one.nonce,
            )
            for one, row in zip(sent, rows, strict=True)
        ]

    return await asyncio.to_thread(checked)


async def _bound(
    state: ServerState,
    connection: Connection,
    kb: KnowledgeBase,
    context: Context,
    writes: Sequence[ChunkWrite],
    field: str,
) -> Binding:
    """Returns the locked knowledge base's binding for these rows. Raises `CiphertextRefused` and `ContextRetired`."""
    binding = await contexts.bind(connection, kb, context)
    if writes:
        binding = await contexts.fix_row_bytes(connection, binding, len(writes[0].row))
    evaluation = evaluation_of(state.schemes, context.data.type, context.data.pk)
    for i, write in enumerate(writes):
        check_width(evaluation, binding, write.row, f"{field}[{i}]")
    return binding


def _conditions(kb: KnowledgeBase, sent: Sequence[wire.ChunkUpdate | wire.ChunkPatch]) -> dict[int, str]:
    """Returns, by key, the last write times of the chunks that must not have changed since."""
    return {chunk_pk(kb.pk, one.chunk_id): one.if_updated_at for one in sent if isinstance(one.if_updated_at, str)}


def _changes(
    state: ServerState, kb: KnowledgeBase, context: Context | None, patches: Sequence[wire.ChunkPatch]
) -> list[ChunkChange]:
    check_chunks(state.settings, patches, "chunk_patches")
    rows: dict[int, bytes] = {}
    if context is not None:
        evaluation = evaluation_of(state.schemes, context.data.type, context.data.pk)
        indexes = {i: one.index for i, one in enumerate(patches) if one.index is not UNSET}
        rows = dict(zip(indexes, rows_of(state.settings, evaluation, indexes.items(), "chunk_patches"), strict=True))
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
    connection: Connection,
    kb: KnowledgeBase,
    context: Context,
    stored: Mapping[int, int],
    changes: Sequence[ChunkChange],
) -> None:
    """Checks that a patched vector belongs to its chunk's context, which only an update changes.

    `stored` has the binding's key for each chunk id.
    """
    binding = await contexts.find_binding(connection, kb, context)
    evaluation = evaluation_of(state.schemes, context.data.type, context.data.pk)
    for i, change in enumerate(changes):
        chunk_id = chunk_id_of(change.pk)
        if change.row is UNSET:
            continue
        if binding is None or stored[chunk_id] != binding.pk:
            raise InvalidRequest(
                f"chunk_patches[{i}].index: chunk {chunk_id} is stored under another context than context_id; "
                "an update (PUT) moves it"
            )
        check_width(evaluation, binding, change.row, f"chunk_patches[{i}]")
