"""Reads chunks; `xtrace_server.storage.chunk_writes` writes them.

Rows are read in steps, so that other requests run in between, however many rows there are.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Select,
    and_,
    case,
    func,
    literal_column,
    select,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from xtrace_core.metadata_filter import EVERY_CHUNK, Filter
from xtrace_core.wire import TAGS
from xtrace_server.errors import ChunksChanged, ChunksNotFound
from xtrace_server.storage import contexts
from xtrace_server.storage.candidates import Candidates
from xtrace_server.storage.contexts import Binding
from xtrace_server.storage.deletions import NOT_DELETED
from xtrace_server.storage.filters import matching
from xtrace_server.storage.indexed_text import is_one_of
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
from xtrace_server.storage.steps import steps

_KEYS_AT_ONCE: Final = 5000
_FEW: Final = 1024
"""The number of chunks in no block up to which all of them are read: usually there are fewer, and they take about a
millisecond."""
KEY_BYTES: Final = 48
"""The approximate memory of a match's key: in a list, and with its row's position or among the deleted keys."""

Reserve: TypeAlias = Callable[[int], None]
"""Reserves memory (bytes) for keys until the request ends, or raises `Overloaded`."""

KeyQuery: TypeAlias = Select[int] | CompoundSelect[int]
"""A query for keys of chunks."""

_c = chunk.c
_NAMED = _c.name != literal_column("''")  # not a bound value: the index has only these


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkFields:
    """Which parts of chunks to read besides their metadata rows."""

    facets: bool = True
    content: bool = False
    row: bool = False


@dataclass(slots=True)
class StoredChunk:
    """A chunk as read; parts that were not requested are empty."""

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
    """Returns the key of a chunk with this id, whether or not it exists; None for an impossible id."""
    return chunk_pk(kb.pk, chunk_id) if 0 < chunk_id <= MAX_CHUNK_ID else None


async def read(connection: AsyncConnection, pks: Collection[int], fields: ChunkFields) -> dict[int, StoredChunk]:
    """Returns the existing chunks with these keys."""
    found: dict[int, StoredChunk] = {}
    for some in steps(pks):
        query = select(*_STORED).where(_c.pk.in_(some), NOT_DELETED)
        for pk, binding_pk, name, t1, t2, t3, t4, t5, nonce, created, updated in await connection.execute(query):
            tags = (t1, t2, t3, t4, t5)
            found[pk] = StoredChunk(pk, binding_pk, name, tags, nonce, created, updated)
        step = [pk for pk in some if pk in found]
        if fields.facets:
            tokens = select(facet.c.chunk_pk, facet.c.token).where(facet.c.chunk_pk.in_(step))
            for pk, token in await connection.execute(tokens.order_by(facet.c.chunk_pk, facet.c.position)):
                found[pk].facets.append(token)
        if fields.content:
            texts = select(content.c.pk, content.c.content).where(content.c.pk.in_(step))
            for pk, text in await connection.execute(texts):
                found[pk].content = text
        if fields.row:
            rows = select(ciphertext.c.pk, ciphertext.c.row).where(ciphertext.c.pk.in_(step))
            for pk, row in await connection.execute(rows):
                found[pk].row = row
    return found


async def find_names(connection: AsyncConnection, binding: Binding, names: Collection[str]) -> dict[str, int]:
    """Returns the smallest chunk id for each name that a chunk of the binding has; ignores the empty name."""
    found: dict[str, int] = {}
    for step in steps(set(names)):
        query = (
            select(_c.name, func.min(_c.pk))
            .where(_c.binding_pk == binding.pk, _NAMED, is_one_of(_c.name, step), NOT_DELETED)
            .group_by(_c.name)
        )
        found |= {name: chunk_id_of(pk) for name, pk in await connection.execute(query)}
    return found


async def matching_pks(connection: AsyncConnection, candidates: Candidates, reserve: Reserve) -> list[int]:
    """Returns the keys of the candidates, ascending. Raises what `reserve` raises."""
    return await read_keys(connection, pk_query(candidates), reserve)


async def read_keys(connection: AsyncConnection, query: KeyQuery, reserve: Reserve) -> list[int]:
    """Returns the keys that the query finds. Raises what `reserve` raises."""
    found: list[int] = []
    async for part in (await connection.stream_scalars(query)).partitions(_KEYS_AT_ONCE):
        reserve(len(part) * KEY_BYTES)
        found += part
    return found


def pk_query(candidates: Candidates) -> Select[int]:
    """Returns the query for the keys of the candidates, ascending."""
    return select(_c.pk).where(*conditions(candidates)).order_by(pk_order(candidates.scope.filter))


def conditions(candidates: Candidates) -> list[ColumnElement[bool]]:
    """Returns the conditions that select the candidates."""
    scope, binding_pk = candidates.scope, candidates.binding.pk
    conditions = [matching(scope.filter, binding_pk), NOT_DELETED]
    if candidates.bounded:
        conditions.append(_c.pk.between(*candidates.pk_range))
    if scope.unsealed:
        conditions.append(_c.block_pk.is_(None))
    if scope.few:
        # No index answers a CASE, so these few are read, and not every sealed chunk that the filter matches.
        conditions[0] = and_(_c.binding_pk == binding_pk, case((conditions[0], 1), else_=0) == 1)
    return conditions


async def few_unsealed(connection: AsyncConnection, binding: Binding) -> bool:
    """Returns whether only few of the binding's chunks are in no block."""
    some = select(_c.pk).where(_c.binding_pk == binding.pk, _c.block_pk.is_(None)).limit(_FEW + 1).subquery()
    return (await connection.execute(select(func.count()).select_from(some))).scalar_one() <= _FEW


def pk_order(filter_: Filter) -> ColumnElement[int]:
    """Returns the order by key of chunks that the filter selects."""
    # An expression, so that SQLite does not scan the whole binding just to avoid sorting a few matches.
    return _c.pk if filter_ == EVERY_CHUNK else _c.pk + 0


async def count_matching(connection: AsyncConnection, candidates: Candidates) -> int:
    """Returns the number of candidates."""
    if not candidates.scope.selects:
        return await count_all(connection, candidates)
    query = select(func.count()).select_from(chunk).where(*conditions(candidates))
    return (await connection.execute(query)).scalar_one()


async def count_all(connection: AsyncConnection, candidates: Candidates) -> int:
    """Returns the number of the binding's chunks with ids in the range, ignoring the filter."""
    if not candidates.bounded and await contexts.is_only_binding(connection, candidates.kb):
        return candidates.kb.number_of_vectors  # without counting a hundred thousand keys
    inside = (_c.binding_pk == candidates.binding.pk, _c.pk.between(*candidates.pk_range), NOT_DELETED)
    return (await connection.execute(select(func.count()).where(*inside))).scalar_one()


async def stored_contents(connection: AsyncConnection, pks: Collection[int], most: int) -> dict[int, tuple[int, str]]:
    """Returns the size of each content of a page's chunks, and the contents of up to `most` bytes."""
    shown = case((_c.content_bytes <= most, content.c.content), else_="")
    query = select(_c.pk, _c.content_bytes, shown).outerjoin(content, content.c.pk == _c.pk).where(_c.pk.in_(pks))
    return {pk: (size, text or "") for pk, size, text in await connection.execute(query)}


async def existing_bindings(connection: AsyncConnection, kb: KnowledgeBase, chunk_ids: Iterable[int]) -> dict[int, int]:
    """Returns the key of the binding for each chunk id. Raises `ChunksNotFound`, which names the missing ones."""
    ids = list(chunk_ids)
    impossible = [chunk_id for chunk_id in ids if pk_of(kb, chunk_id) is None]
    if impossible:
        raise ChunksNotFound(impossible)
    found = await bindings_of(connection, [chunk_pk(kb.pk, chunk_id) for chunk_id in ids])
    return {chunk_id_of(pk): binding_pk for pk, binding_pk in found.items()}


async def bindings_of(connection: AsyncConnection, pks: Sequence[int]) -> dict[int, int]:
    """Returns the key of the binding for each chunk's key. Raises `ChunksNotFound`."""
    found: dict[int, int] = {}
    for step in steps(pks):
        rows = await connection.execute(select(_c.pk, _c.binding_pk).where(_c.pk.in_(step), NOT_DELETED))
        found.update({row[0]: row[1] for row in rows})
    missing = [chunk_id_of(pk) for pk in pks if pk not in found]
    if missing:
        raise ChunksNotFound(missing)
    return found


async def existing(connection: AsyncConnection, pks: Collection[int]) -> list[int]:
    """Returns those of the keys that belong to chunks, in order."""
    found: list[int] = []
    for step in steps(pks):
        rows = await connection.execute(select(_c.pk).where(_c.pk.in_(step), NOT_DELETED))
        there = set(rows.scalars())
        found += [pk for pk in step if pk in there]
    return found


async def check_unchanged(connection: AsyncConnection, updated_at: Mapping[int, str]) -> None:
    """Raises `ChunksChanged` unless the chunks with these keys exist and were last written at these times."""
    changed: list[int] = []
    for step in steps(updated_at):
        query = select(_c.pk, _c.updated_at).where(_c.pk.in_(step), NOT_DELETED)
        stored = {row.pk: row.updated_at for row in await connection.execute(query)}
        changed += [chunk_id_of(pk) for pk in step if stored.get(pk) != updated_at[pk]]
    if changed:
        raise ChunksChanged(changed)
