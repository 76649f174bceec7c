"""Pages of chunks: sorted by chunk id, a tag or a time.

Without a filter, every order follows an index, so a page costs the same however many chunks there are. With a filter,
the candidates are found first and then sorted, because usually they are few.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, CompoundSelect, Select, asc, desc, func, literal, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from xtrace_core.metadata_filter import EVERY_CHUNK
from xtrace_core.wire import TAGS
from xtrace_server.storage.candidates import Candidates
from xtrace_server.storage.chunks import KeyQuery, Reserve, conditions, pk_order, read_keys
from xtrace_server.storage.indexed_text import Indexed
from xtrace_server.storage.keyset import Position, beyond
from xtrace_server.storage.schema import chunk

_c = chunk.c
_Part: TypeAlias = Callable[[Candidates, "PageQuery"], KeyQuery]


@dataclass(frozen=True, slots=True, kw_only=True)
class PageQuery:
    """One page of the candidates.

    Chunks with equal `sort_by` are sorted by chunk id, in the same direction; a tag that is not set sorts as empty.
    """

    sort_by: str
    descending: bool
    limit: int | None
    offset: int
    after: Position | None


@dataclass(frozen=True, slots=True)
class FoundKeys:
    """The keys of a page's chunks in order, where the page ends (None for an empty one), and what follows."""

    pks: Sequence[int]
    last: Position | None
    has_more: bool


async def page(connection: AsyncConnection, candidates: Candidates, query: PageQuery, reserve: Reserve) -> FoundKeys:
    """Returns one page of the candidates. Raises what `reserve` raises."""
    found: list[int] = []
    for statement in statements(candidates, query):
        left = None if query.limit is None else query.limit + 1 - len(found)
        if left != 0:
            found += await read_keys(connection, statement.limit(left), reserve)
    has_more = query.limit is not None and len(found) > query.limit
    if has_more:
        del found[query.limit :]
    last = await position_of(connection, found[-1], query.sort_by) if found else None
    return FoundKeys(found, last, has_more)


async def position_of(connection: AsyncConnection, pk: int, sort_by: str) -> Position | None:
    """Returns the position of a chunk in this order; None if it is gone."""
    if sort_by == "chunk_id":
        return Position("", pk)
    query = select(func.coalesce(_c[sort_by], "")).where(_c.pk == pk)
    value = (await connection.execute(query)).scalar_one_or_none()
    return None if value is None else Position(value, pk)


def statements(candidates: Candidates, query: PageQuery) -> list[KeyQuery]:
    """Returns the queries whose results, one after the other, are the candidates from the page's start on."""
    filter_, by = candidates.scope.filter, query.sort_by
    if by == "chunk_id":
        return [_sorted(candidates, query, None, pk_order(filter_))]
    is_whole = filter_ == EVERY_CHUNK and not candidates.bounded
    if is_whole and by in TAGS and (query.after is not None or not query.offset):
        return _by_tag(candidates, query)
    # Not the bare column if there is a filter: the database would walk the index of the order until enough match.
    key = _c[by] if is_whole and by not in TAGS else func.coalesce(_c[by], "")
    return [_sorted(candidates, query, key, key, _c.pk)]


def _by_tag(candidates: Candidates, query: PageQuery) -> list[KeyQuery]:
    """As `statements`. The index of a tag has the chunks with it and those without it in different places."""
    parts: list[_Part] = [_without_tag, _having_tag]
    if query.descending:
        parts.reverse()
    if query.after is None:
        return [part(candidates, query) for part in parts]
    reached: _Part = _having_tag if query.after.value else _without_tag
    found = [reached(candidates, query)]
    if reached is parts[0]:
        found.append(parts[1](candidates, replace(query, after=None, offset=0)))
    return found


def _without_tag(candidates: Candidates, query: PageQuery) -> CompoundSelect[int]:
    # The index has null and the empty tag in different places: the database merges two lookups.
    tag, chosen = _c[query.sort_by], conditions(candidates)
    if query.after is not None:
        chosen.append(beyond(None, _c.pk, query.after, query.descending))
    either = union_all(*[select(_c.pk).where(*chosen, one) for one in (tag.is_(None), Indexed(tag) == "")])
    return either.order_by(desc("pk") if query.descending else asc("pk"))


def _having_tag(candidates: Candidates, query: PageQuery) -> Select[int]:
    # In PostgreSQL the index contains only the beginnings of tags: these come first in the order.
    tag, after = _c[query.sort_by], query.after
    beginning = Indexed(tag)
    statement = _sorted(candidates, query, tag, beginning, tag, _c.pk).where(beginning > "")
    if after is None:
        return statement
    reached = Indexed(literal(after.value, tag.type))
    return statement.where(beginning <= reached if query.descending else beginning >= reached)


def _sorted(
    candidates: Candidates, query: PageQuery, key: ColumnElement[Any] | None, *order: ColumnElement[Any]
) -> Select[int]:
    columns = [column.desc() if query.descending else column for column in order]
    statement = select(_c.pk).where(*conditions(candidates)).order_by(*columns)
    if query.after is not None:
        return statement.where(beyond(key, _c.pk, query.after, query.descending))
    return statement.offset(query.offset) if query.offset else statement
