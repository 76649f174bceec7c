"""All writes of chunks, each in one transaction on a locked knowledge base.

A request's writes go to the database in steps, so that other requests run in between; the transaction makes them
atomic.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import UNSET
from sqlalchemy import Table, delete
from sqlalchemy.ext.asyncio import AsyncConnection

from xtrace_core.metadata import normalised, unique
from xtrace_core.wire import TAGS, MetaData, OnConflict, Outcome
from xtrace_server.errors import NamesTaken, Unavailable
from xtrace_server.storage import knowledge_bases, slots, unique_names, usage
from xtrace_server.storage.chunks import bindings_of, existing
from xtrace_server.storage.contexts import Binding
from xtrace_server.storage.database import now
from xtrace_server.storage.deletions import delete_chunks
from xtrace_server.storage.dialects import statements
from xtrace_server.storage.knowledge_bases import KnowledgeBase
from xtrace_server.storage.schema import (
    MAX_CHUNK_ID,
    chunk,
    chunk_id_of,
    chunk_pk,
    ciphertext,
    content,
    facet,
    unique_key,
)
from xtrace_server.storage.sizes import byte_length, stored_bytes
from xtrace_server.storage.steps import steps
from xtrace_server.storage.unique_names import Place

_c = chunk.c
_COLUMNS: Final = (
    *("pk", "binding_pk", "name", "facet_count", "facet_bytes", "content_bytes", "nonce", "revision", "updated_at"),
    *TAGS,
)
"""The columns of a chunk's row that every write sets."""
_FACET: Final = ("chunk_pk", "position", "binding_pk", "token")
_FacetRow: TypeAlias = tuple[int, int, int, str]
"""The columns of a facet's row, and their values: of these there are many."""


@dataclass(frozen=True, slots=True)
class ChunkWrite:
    """The complete state of a chunk, with its checked ciphertexts as one row."""

    content: str
    row: bytes
    meta_data: MetaData
    name: str
    nonce: bytes | None
    tags: tuple[str | None, ...] = field(init=False)
    """The values of `TAGS`."""
    facets: list[str] = field(init=False)
    facet_bytes: int = field(init=False)
    content_bytes: int = field(init=False)
    stored_bytes: int = field(init=False)
    """The same as `sizes.stored_bytes` of the stored chunk."""

    def __post_init__(self) -> None:
        # Computed in the thread that checks the request, because later the writer would wait for it.
        *values, facets = msgspec.structs.astuple(normalised(self.meta_data))
        tags, tokens = tuple([None if value is UNSET else value for value in values]), facets or []
        facet_bytes, content_bytes = _facet_bytes(tokens), byte_length(self.content)
        rest = sum([byte_length(text) for text in (*tags, self.name) if text]) + len(self.row) + len(self.nonce or b"")
        object.__setattr__(self, "tags", tags)
        object.__setattr__(self, "facets", tokens)
        object.__setattr__(self, "facet_bytes", facet_bytes)
        object.__setattr__(self, "content_bytes", content_bytes)
        object.__setattr__(self, "stored_bytes", facet_bytes + content_bytes + rest)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkChange:
    """The changes to a chunk; `UNSET` fields stay."""

    pk: int
    content: Any = UNSET
    row: Any = UNSET
    nonce: Any = UNSET
    name: Any = UNSET
    meta_data: MetaData = field(default_factory=MetaData)

    @property
    def changes_vector(self) -> bool:
        """Whether it changes the vector or its nonce."""
        return self.row is not UNSET or self.nonce is not UNSET


async def insert_all(
    connection: AsyncConnection, kb: KnowledgeBase, binding: Binding, writes: Sequence[ChunkWrite]
) -> list[int]:
    """Stores the chunks under new ids, and returns the ids in the same order. Raises `QuotaExceeded`."""
    added = _bytes_of(writes)
    await _check_room(connection, kb, len(writes), added)
    pks = await _store(connection, kb, binding, writes, unique=False)
    await knowledge_bases.record_write(connection, kb, inserted=len(writes), added_bytes=added)
    return [chunk_id_of(pk) for pk in pks]


async def insert_unique(
    connection: AsyncConnection,
    kb: KnowledgeBase,
    binding: Binding,
    writes: Sequence[ChunkWrite],
    on_conflict: OnConflict,
) -> list[tuple[int, Outcome]]:
    """Stores chunks under distinct, unique names; returns the resulting id of each, and what was done.

    Raises `NamesTaken` and `QuotaExceeded`.
    """
    known = await unique_names.find(connection, binding, [write.name for write in writes])
    if on_conflict == "fail" and known:
        raise NamesTaken.of_positions([i for i, write in enumerate(writes) if write.name in known])
    new = [write for write in writes if write.name not in known]
    replaced = {}
    if on_conflict == "replace":
        replaced = {known[write.name]: write for write in writes if write.name in known}
    added = _bytes_of(new) + await _added_bytes(connection, replaced)
    await _check_room(connection, kb, len(new), added)
    pks = await _store(connection, kb, binding, new, unique=True)
    stored = {write.name: pk for write, pk in zip(new, pks, strict=True)}
    await _replace(connection, kb, binding, replaced)
    if new or replaced:
        await knowledge_bases.record_write(connection, kb, inserted=len(new), added_bytes=added)
    before: Outcome = "replaced" if replaced else "known"
    return [
        (chunk_id_of(stored[write.name]), "inserted")
        if write.name in stored
        else (chunk_id_of(known[write.name]), before)
        for write in writes
    ]


async def _store(
    connection: AsyncConnection, kb: KnowledgeBase, binding: Binding, writes: Sequence[ChunkWrite], *, unique: bool
) -> range:
    """Stores the chunks under new ids, and returns their keys."""
    first = kb.next_chunk_id
    if first + len(writes) > MAX_CHUNK_ID:
        raise Unavailable("the knowledge base has no more chunk ids")
    moment, first_pk = now(), chunk_pk(kb.pk, first)
    for part in steps(enumerate(writes, first_pk)):
        rows = [
            (
                *_columns(pk, binding.pk, write, kb.revision + 1, moment),
                moment,
                unique_key(write.name) if unique else None,
            )
            for pk, write in part
        ]
        await _insert(connection, chunk, (*_COLUMNS, "created_at", "unique_name"), rows)
        await _insert(connection, facet, _FACET, _facets_of(part, binding.pk))
        await _insert(connection, content, ("pk", "content"), [(pk, write.content) for pk, write in part])
        await _insert(connection, ciphertext, ("pk", "row"), [(pk, write.row) for pk, write in part])
    return range(first_pk, first_pk + len(writes))


async def replace_all(
    connection: AsyncConnection, kb: KnowledgeBase, binding: Binding, writes: dict[int, ChunkWrite]
) -> None:
    """Replaces chunks by their keys, and moves them to the binding.

    Raises `ChunksNotFound`, `NamesTaken` and `QuotaExceeded`.
    """
    bindings_before = await bindings_of(connection, list(writes))
    added = await _added_bytes(connection, writes)
    await _check_room(connection, kb, 0, added)
    places = {pk: Place(binding.pk, write.name) for pk, write in writes.items()}
    released = await unique_names.release(connection, places)
    await _replace(connection, kb, binding, writes)
    await unique_names.claim(connection, released)
    moved = any(before != binding.pk for before in bindings_before.values())
    await knowledge_bases.record_write(connection, kb, added_bytes=added, left_a_binding=moved)


async def _check_room(connection: AsyncConnection, kb: KnowledgeBase, chunks: int, stored_bytes: int) -> None:
    """Raises `QuotaExceeded` before anything is written, so that rejected requests do not keep the writer busy."""
    await usage.check_room(connection, kb.organisation_id, chunks=chunks, stored_bytes=stored_bytes)


async def _added_bytes(connection: AsyncConnection, writes: Mapping[int, ChunkWrite]) -> int:
    """Returns by how many bytes the chunks with these keys will grow."""
    return _bytes_of(writes.values()) - await stored_bytes(connection, writes)


def _facet_bytes(tokens: Sequence[str]) -> int:
    return byte_length("".join(tokens))


def _bytes_of(writes: Iterable[ChunkWrite]) -> int:
    return sum(write.stored_bytes for write in writes)


async def _replace(
    connection: AsyncConnection, kb: KnowledgeBase, binding: Binding, writes: Mapping[int, ChunkWrite]
) -> None:
    moment = now()
    await slots.free(connection, kb, writes)
    for part in steps(writes.items()):
        rows = [
            dict(zip(_COLUMNS, _columns(pk, binding.pk, write, kb.revision + 1, moment), strict=True))
            for pk, write in part
        ]
        await _update(connection, chunk, [{**row, **slots.UNSEALED} for row in rows])
        await _replace_facets(connection, [pk for pk, _ in part], _facets_of(part, binding.pk))
        await _update(connection, content, [{"pk": pk, "content": write.content} for pk, write in part])
        await _update(connection, ciphertext, [{"pk": pk, "row": write.row} for pk, write in part])


async def change_all(connection: AsyncConnection, kb: KnowledgeBase, changes: Sequence[ChunkChange]) -> None:
    """Applies each change to its chunk. Raises `ChunksNotFound`, `NamesTaken` and `QuotaExceeded`."""
    pks = [change.pk for change in changes]
    before = await stored_bytes(connection, pks)
    bindings = await bindings_of(connection, pks)
    renamed = {one.pk: Place(bindings[one.pk], one.name) for one in changes if one.name is not UNSET}
    released = await unique_names.release(connection, renamed)
    moment = now()
    await slots.free(connection, kb, [change.pk for change in changes if change.changes_vector])
    for part in steps(changes):
        await _change(connection, part, bindings, kb.revision + 1, moment)
    await unique_names.claim(connection, released)
    if changes:
        added = await stored_bytes(connection, pks) - before
        await knowledge_bases.record_write(connection, kb, added_bytes=added)


async def _change(
    connection: AsyncConnection,
    changes: Sequence[ChunkChange],
    bindings: Mapping[int, int],
    revision: int,
    moment: str,
) -> None:
    # Changes of the same fields share a statement.
    by_fields: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for change in changes:
        row = _changed_columns(change) | {"revision": revision, "updated_at": moment}
        by_fields.setdefault(tuple(row), []).append({"pk": change.pk} | row)
    for rows in by_fields.values():
        await _update(connection, chunk, rows)
    refaceted = [change for change in changes if change.meta_data.facets is not UNSET]
    tokens = [
        token
        for change in refaceted
        for token in _facet_rows(change.pk, bindings[change.pk], unique(change.meta_data.facets or ()))
    ]
    await _replace_facets(connection, [change.pk for change in refaceted], tokens)
    contents = [{"pk": change.pk, "content": change.content} for change in changes if change.content is not UNSET]
    await _update(connection, content, contents)
    vectors = [{"pk": change.pk, "row": change.row} for change in changes if change.row is not UNSET]
    await _update(connection, ciphertext, vectors)


async def remove(connection: AsyncConnection, kb: KnowledgeBase, pks: Collection[int]) -> list[int]:
    """Deletes the existing chunks with these keys, and everything that belongs to them; returns their keys.

    They are invisible once the transaction ends. If they are many, `deletions.carry_out` must follow.
    """
    found = await existing(connection, pks)
    if found:
        freed = await stored_bytes(connection, found)
        await slots.free(connection, kb, found)
        await delete_chunks(connection, found)
        await knowledge_bases.record_write(connection, kb, removed=len(found), added_bytes=-freed)
    return found


def _columns(pk: int, binding_pk: int, write: ChunkWrite, revision: int, moment: str) -> tuple[Any, ...]:
    """Returns the values of `_COLUMNS`."""
    return (
        pk,
        binding_pk,
        write.name,
        len(write.facets),
        write.facet_bytes,
        write.content_bytes,
        write.nonce,
        revision,
        moment,
        *write.tags,
    )


def _facets_of(writes: Iterable[tuple[int, ChunkWrite]], binding_pk: int) -> list[_FacetRow]:
    return [row for pk, write in writes if write.facets for row in _facet_rows(pk, binding_pk, write.facets)]


def _facet_rows(pk: int, binding_pk: int, tokens: Sequence[str]) -> list[_FacetRow]:
    return [(pk, i, binding_pk, token) for i, token in enumerate(tokens)]


def _changed_columns(change: ChunkChange) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for tag in TAGS:
        value = getattr(change.meta_data, tag)
        if value is not UNSET:
            columns[tag] = value
    if change.meta_data.facets is not UNSET:
        tokens = unique(change.meta_data.facets or ())
        columns |= {"facet_count": len(tokens), "facet_bytes": _facet_bytes(tokens)}
    if change.content is not UNSET:
        columns["content_bytes"] = byte_length(change.content)
    if change.name is not UNSET:
        columns["name"] = change.name
    if change.changes_vector:
        # Without its nonce, a new vector would be decrypted with the old vector's noise.
        columns |= {"nonce": None if change.nonce is UNSET else change.nonce, **slots.UNSEALED}
    return columns


async def _insert(
    connection: AsyncConnection, table: Table, names: Sequence[str], rows: Sequence[tuple[Any, ...]]
) -> None:
    for part in steps(rows):
        await statements(connection).insert_rows(connection, table, names, part)


async def _update(connection: AsyncConnection, table: Table, rows: list[dict[str, Any]]) -> None:
    """Updates the rows' columns, which are the same in all of them, by their `pk`."""
    if rows:
        names = [name for name in rows[0] if name != "pk"]
        values = [(*[row[name] for name in names], row["pk"]) for row in rows]
        await statements(connection).update_rows(connection, table, names, values)


async def _replace_facets(connection: AsyncConnection, pks: Sequence[int], rows: list[_FacetRow]) -> None:
    for step in steps(pks):
        await connection.execute(delete(facet).where(facet.c.chunk_pk.in_(step)))
    await _insert(connection, facet, _FACET, rows)
