"""Chunks: what is read of them, and every write, each within one transaction on a locked knowledge base."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec import UNSET
from sqlalchemy import (
    ColumnElement,
    Select,
    Table,
    and_,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from xtrace_core.metadata import normalised, unique
from xtrace_core.metadata_filter import EVERY_CHUNK, Filter
from xtrace_core.wire import TAGS, MetaData
from xtrace_server.errors import ChunksNotFound, Unavailable
from xtrace_server.storage import knowledge_bases
from xtrace_server.storage.contexts import Binding
from xtrace_server.storage.database import now
from xtrace_server.storage.filters import matching
from xtrace_server.storage.knowledge_bases import KnowledgeBase
from xtrace_server.storage.schema import (
    MAX_CHUNK_ID,
    chunk,
    chunk_id_of,
    chunk_pk,
    ciphertext,
    content,
    facet,
)

PARAMETERS = 10_000
"""How many values one statement binds at most; SQLite refuses more than 32,766."""

_c = chunk.c


@dataclass(frozen=True, slots=True)
class ChunkWrite:
    """All that a chunk is to hold; its ciphertexts as one row, checked."""

    content: str
    row: bytes
    meta_data: MetaData
    name: str
    nonce: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkChange:
    """What is to change of a chunk; `UNSET` stays."""

    pk: int
    content: Any = UNSET
    row: Any = UNSET
    nonce: Any = UNSET
    name: Any = UNSET
    meta_data: MetaData = field(default_factory=MetaData)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Which parts of chunks to read beside their metadata rows."""

    facets: bool = True
    content: bool = False
    row: bool = False


@dataclass(slots=True)
class StoredChunk:
    """A chunk as read; what was not asked for is empty."""

    pk: int
    binding_pk: int
    name: str
    tags: tuple[str | None, ...]
    nonce: bytes | None
    created_at: str
    updated_at: str
    facets: list[str] = field(default_factory=list)
    content: str = ""
    row: bytes = b""

    @property
    def chunk_id(self) -> int:
        return chunk_id_of(self.pk)


_STORED = (_c.pk, _c.binding_pk, _c.name, *[_c[tag] for tag in TAGS], _c.nonce, _c.created_at, _c.updated_at)


def pk_of(kb: KnowledgeBase, chunk_id: int) -> int | None:
    """The key that a chunk of that id has if it exists; None for an id that no chunk can have."""
    return chunk_pk(kb.pk, chunk_id) if 0 < chunk_id <= MAX_CHUNK_ID else None


# Reading


async def read(connection: AsyncConnection, pks: Collection[int], parts: Parts) -> dict[int, StoredChunk]:
    """The chunks with these keys that exist."""
    found: dict[int, StoredChunk] = {}
    for batch in _batches(pks):
        query = select(*_STORED).where(_c.pk.in_(batch))
        for pk, binding_pk, name, t1, t2, t3, t4, t5, nonce, created, updated in await connection.execute(query):
            tags = (t1, t2, t3, t4, t5)
            found[pk] = StoredChunk(pk, binding_pk, name, tags, nonce, created, updated)
        if parts.facets:
            tokens = select(facet.c.chunk_pk, facet.c.token).where(facet.c.chunk_pk.in_(batch))
            for pk, token in await connection.execute(tokens.order_by(facet.c.chunk_pk, facet.c.position)):
                found[pk].facets.append(token)
        if parts.content:
            texts = select(content.c.pk, content.c.content).where(content.c.pk.in_(batch))
            for pk, text in await connection.execute(texts):
                found[pk].content = text
        if parts.row:
            rows = select(ciphertext.c.pk, ciphertext.c.row).where(ciphertext.c.pk.in_(batch))
            for pk, row in await connection.execute(rows):
                found[pk].row = row
    return found


async def find_names(connection: AsyncConnection, binding: Binding, names: Collection[str]) -> dict[str, int]:
    """For each of the names that a chunk of the binding has, the smallest chunk id; never for the empty name."""
    found: dict[str, int] = {}
    for batch in _batches(set(names)):
        query = (
            select(_c.name, func.min(_c.pk))
            .where(_c.binding_pk == binding.pk, _c.name != "", _c.name.in_(batch))
            .group_by(_c.name)
        )
        found |= {name: chunk_id_of(pk) for name, pk in await connection.execute(query)}
    return found


async def matching_pks(
    connection: AsyncConnection, binding: Binding, filter_: Filter, pk_range: tuple[int, int] | None = None
) -> list[int]:
    """The keys of the binding's chunks that the filter matches, ascending; `pk_range` includes both ends."""
    query = pk_query(binding, filter_)
    if pk_range is not None:
        query = query.where(_c.pk.between(*pk_range))
    return list((await connection.execute(query)).scalars())


def pk_query(binding: Binding, filter_: Filter) -> Select[int]:
    """The query for the keys of the binding's chunks that the filter matches, ascending."""
    return select(_c.pk).where(matching(filter_, binding.pk)).order_by(_pk_order(filter_))


def _pk_order(filter_: Filter) -> ColumnElement[int]:
    # An expression, so that SQLite does not walk the whole binding in order to save the sorting of a few matches.
    return _c.pk if filter_ == EVERY_CHUNK else _c.pk + 0


async def count_matching(connection: AsyncConnection, binding: Binding, filter_: Filter) -> int:
    """How many of the binding's chunks the filter matches."""
    query = select(func.count()).select_from(chunk).where(matching(filter_, binding.pk))
    return (await connection.execute(query)).scalar_one()


@dataclass(frozen=True, slots=True)
class Position:
    """Where a page ended: the last chunk's key, and what it was sorted by."""

    value: str
    pk: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PageQuery:
    """One page of the binding's chunks that a filter matches.

    Ties of `sort_by` are in the order of the chunk ids, in the same direction; a tag that is not set sorts as
    empty.
    """

    binding: Binding
    filter_: Filter
    sort_by: str
    descending: bool
    limit: int | None
    offset: int
    after: Position | None


async def page(connection: AsyncConnection, query: PageQuery) -> tuple[list[Position], bool]:
    """Where each chunk of the page stands, and whether more follow."""
    key: ColumnElement[Any] | None = None if query.sort_by == "chunk_id" else func.coalesce(_c[query.sort_by], "")
    statement = select(_c.pk if key is None else key, _c.pk).where(matching(query.filter_, query.binding.pk))
    order = [_pk_order(query.filter_)] if key is None else [key, _c.pk]
    statement = statement.order_by(*[column.desc() if query.descending else column for column in order])
    if query.after is not None:
        statement = statement.where(_beyond(key, query.after, query.descending))
    elif query.offset:
        statement = statement.offset(query.offset)
    if query.limit is not None:
        statement = statement.limit(query.limit + 1)
    elif query.offset and query.after is None:
        statement = statement.limit(2**62)  # SQLite has no OFFSET without LIMIT
    found = [Position("" if key is None else value, pk) for value, pk in await connection.execute(statement)]
    if query.limit is None or len(found) <= query.limit:
        return found, False
    return found[: query.limit], True


def _beyond(key: ColumnElement[Any] | None, after: Position, descending: bool) -> ColumnElement[bool]:
    later = _c.pk < after.pk if descending else _c.pk > after.pk
    if key is None:
        return later
    past = key < after.value if descending else key > after.value
    return or_(past, and_(key == after.value, later))


# Writing


async def insert_all(
    connection: AsyncConnection, kb: KnowledgeBase, binding: Binding, writes: Sequence[ChunkWrite]
) -> list[int]:
    """Stores the chunks under new ids, and gives these in the same order."""
    first = kb.next_chunk_id
    if first + len(writes) > MAX_CHUNK_ID:
        raise Unavailable("the knowledge base has given out all of its chunk ids")
    moment, pk = now(), chunk_pk(kb.pk, first)
    rows, facets = [], []
    for i, write in enumerate(writes):
        row, tokens = _metadata_rows(pk + i, binding.pk, write, kb.revision + 1, moment)
        rows.append(row | {"created_at": moment})
        facets += tokens
    await _insert(connection, chunk, rows)
    await _insert(connection, facet, facets)
    await _insert(connection, content, [{"pk": pk + i, "content": w.content} for i, w in enumerate(writes)])
    await _insert(connection, ciphertext, [{"pk": pk + i, "row": w.row} for i, w in enumerate(writes)])
    await knowledge_bases.record_write(connection, kb, inserted=len(writes))
    return list(range(first, first + len(writes)))


async def replace_all(
    connection: AsyncConnection, kb: KnowledgeBase, binding: Binding, writes: dict[int, ChunkWrite]
) -> None:
    """Gives chunks, by their keys, all they hold from now on, and moves them to the binding.

    Raises `ChunksNotFound`.
    """
    bindings_before = await _existing_bindings(connection, list(writes))
    moment = now()
    rows, facets = [], []
    for pk, write in writes.items():
        row, tokens = _metadata_rows(pk, binding.pk, write, kb.revision + 1, moment)
        rows.append(row)
        facets += tokens
    await _update(connection, chunk, rows)
    await _replace_facets(connection, list(writes), facets)
    await _update(connection, content, [{"pk": pk, "content": w.content} for pk, w in writes.items()])
    await _update(connection, ciphertext, [{"pk": pk, "row": w.row} for pk, w in writes.items()])
    moved = any(before != binding.pk for before in bindings_before.values())
    await knowledge_bases.record_write(connection, kb, left_a_binding=moved, wrote_vectors=bool(writes))


async def existing_bindings(connection: AsyncConnection, kb: KnowledgeBase, chunk_ids: Iterable[int]) -> dict[int, int]:
    """For each of the chunk ids the key of its binding. Raises `ChunksNotFound` naming those that do not
    exist.
    """
    ids = list(chunk_ids)
    impossible = [chunk_id for chunk_id in ids if pk_of(kb, chunk_id) is None]
    if impossible:
        raise ChunksNotFound(impossible)
    found = await _existing_bindings(connection, [chunk_pk(kb.pk, chunk_id) for chunk_id in ids])
    return {chunk_id_of(pk): binding_pk for pk, binding_pk in found.items()}


async def change_all(connection: AsyncConnection, kb: KnowledgeBase, changes: Sequence[ChunkChange]) -> None:
    """Changes what each change names of its chunk. Raises `ChunksNotFound`."""
    bindings = await _existing_bindings(connection, [change.pk for change in changes])
    moment = now()
    # Changes that name the same fields share a statement.
    by_fields: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for change in changes:
        row = _changed_columns(change, kb.revision + 1) | {"updated_at": moment}
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
    wrote = any(change.row is not UNSET or change.nonce is not UNSET for change in changes)
    if changes:
        await knowledge_bases.record_write(connection, kb, wrote_vectors=wrote)


async def remove(connection: AsyncConnection, kb: KnowledgeBase, pks: Collection[int]) -> int:
    """Deletes the chunks with these keys that exist, with all that belongs to them; how many there were."""
    removed = 0
    for batch in _batches(pks):
        removed += (await connection.execute(delete(chunk).where(_c.pk.in_(batch)))).rowcount
    if removed:
        await knowledge_bases.record_write(connection, kb, removed=removed)
    return removed


async def _existing_bindings(connection: AsyncConnection, pks: Sequence[int]) -> dict[int, int]:
    found: dict[int, int] = {}
    for batch in _batches(pks):
        rows = await connection.execute(select(_c.pk, _c.binding_pk).where(_c.pk.in_(batch)))
        found.update({row[0]: row[1] for row in rows})
    missing = [chunk_id_of(pk) for pk in pks if pk not in found]
    if missing:
        raise ChunksNotFound(missing)
    return found


def _metadata_rows(
    pk: int, binding_pk: int, write: ChunkWrite, revision: int, moment: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    meta_data = normalised(write.meta_data)
    tokens = meta_data.facets or []
    row = {
        "pk": pk,
        "binding_pk": binding_pk,
        "name": write.name,
        "facet_count": len(tokens),
        "nonce": write.nonce,
        "revision": revision,
        "updated_at": moment,
    }
    for tag in TAGS:
        value = getattr(meta_data, tag)
        row[tag] = None if value is UNSET else value
    return row, _facet_rows(pk, binding_pk, tokens)


def _facet_rows(pk: int, binding_pk: int, tokens: Sequence[str]) -> list[dict[str, Any]]:
    return [{"chunk_pk": pk, "position": i, "binding_pk": binding_pk, "token": token} for i, token in enumerate(tokens)]


def _changed_columns(change: ChunkChange, revision: int) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for tag in TAGS:
        value = getattr(change.meta_data, tag)
        if value is not UNSET:
            columns[tag] = value
    if change.meta_data.facets is not UNSET:
        columns["facet_count"] = len(unique(change.meta_data.facets or ()))
    if change.name is not UNSET:
        columns["name"] = change.name
    if change.row is not UNSET or change.nonce is not UNSET:
        # A new vector without its nonce would be decrypted with the old one's noise.
        columns["nonce"] = None if change.nonce is UNSET else change.nonce
        columns["revision"] = revision
    return columns


async def _insert(connection: AsyncConnection, table: Table, rows: list[dict[str, Any]]) -> None:
    if rows:
        await connection.execute(insert(table), rows)


async def _update(connection: AsyncConnection, table: Table, rows: list[dict[str, Any]]) -> None:
    """Sets the columns that the rows name, which are the same in each, where their `pk` is."""
    if rows:
        statement = update(table).where(table.c.pk == bindparam("this_pk"))
        values = [{"this_pk": row["pk"]} | {name: row[name] for name in row if name != "pk"} for row in rows]
        await connection.execute(statement, values)


async def _replace_facets(connection: AsyncConnection, pks: Sequence[int], rows: list[dict[str, Any]]) -> None:
    for batch in _batches(pks):
        await connection.execute(delete(facet).where(facet.c.chunk_pk.in_(batch)))
    await _insert(connection, facet, rows)


def _batches(values: Collection[Any]) -> Iterable[list[Any]]:
    listed = list(values)
    for i in range(0, len(listed), PARAMETERS):
        yield listed[i : i + PARAMETERS]
