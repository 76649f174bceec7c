"""Pages by key: a page begins after a row, so it costs the same however many rows come before it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import ColumnElement, FromClause, Select, func, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from xtrace_server.storage import filters

_Row = TypeVar("_Row")
_LONGEST_ID: Final = 64


@dataclass(frozen=True, slots=True)
class Position:
    """Where a page ended: the last row's key and its sorting value."""

    value: str | int
    pk: Any
    """A number, or of API keys and organisations a text."""


def beyond(
    key: ColumnElement[Any] | None, pk: ColumnElement[Any], after: Position, descending: bool
) -> ColumnElement[bool]:
    """The condition that selects the rows after a position, sorted by `key`, if there is one, and then by `pk`."""
    here: ColumnElement[Any] = pk if key is None else tuple_(key, pk)
    reached = after.pk if key is None else tuple_(after.value, after.pk)
    further: ColumnElement[bool] = here < reached if descending else here > reached
    return further


def named(name: ColumnElement[str], beginning: ColumnElement[str], find: str) -> list[ColumnElement[bool]]:
    """The condition that finds rows by a part of their name, ignoring case, or by how their ID begins.

    No condition for an empty text. Databases fold the case of ASCII alone, so a text is also tried with its letters in
    upper case, in lower case and capitalized.
    """
    if not find:
        return []
    spellings = {find, find.lower(), find.upper(), find.capitalize(), find.title()}
    found = [filters.Position(func.lower(name), _ascii_lower(one)) > 0 for one in sorted(spellings)]
    if len(find) <= _LONGEST_ID:
        found.append(func.substr(beginning, 1, len(find)) == find)
    return [or_(*found)]


def _ascii_lower(text: str) -> str:
    return "".join([one.lower() if one.isascii() else one for one in text])


@dataclass(frozen=True, slots=True, kw_only=True)
class SortedList(Generic[_Row]):
    """A list that is stored, in an order, and read a page at a time.

    The database sorts the rows of `owned`: 10,000 knowledge bases take 3 to 8 ms. Indexes of the orders would have to
    change with every write of chunks and every use of a key.
    """

    columns: Sequence[ColumnElement[Any]]
    make: Callable[[Sequence[Any]], _Row]
    """Makes a row of the values of `columns`."""
    table: FromClause
    owned: Sequence[ColumnElement[bool]]
    """Which rows its reader may know of."""
    wanted: Sequence[ColumnElement[bool]] = ()
    """Which of these are in the list."""
    id: ColumnElement[str]
    key: ColumnElement[Any]
    """What it is sorted by; rows with the same value by `pk`."""
    pk: ColumnElement[Any]

    def query(self, after: Position | None, *, descending: bool, limit: int) -> Select[Any]:
        """The query for the rows after a position, or for the first ones; the last column is the key."""
        order = (self.key.desc(), self.pk.desc()) if descending else (self.key, self.pk)
        past = [] if after is None else [beyond(self.key, self.pk, after, descending)]
        query = select(*self.columns, self.key).select_from(self.table)
        return query.where(*self.owned, *self.wanted, *past).order_by(*order).limit(limit)

    async def read(
        self, connection: AsyncConnection, after: Position | None, *, descending: bool, limit: int
    ) -> list[tuple[_Row, str | int]]:
        """The rows after a position, or the first ones, each with what it is sorted by."""
        rows = await connection.execute(self.query(after, descending=descending, limit=limit))
        return [(self.make(row[:-1]), row[-1]) for row in rows]

    async def count(self, connection: AsyncConnection) -> int:
        """How many rows the list has."""
        query = select(func.count()).select_from(self.table).where(*self.owned, *self.wanted)
        return int((await connection.execute(query)).scalar_one())

    async def position_of(self, connection: AsyncConnection, id_: str) -> Position | None:
        """Where the row of an ID stands in the order, also one that is not in the list; None if it is gone."""
        query = select(self.key, self.pk).select_from(self.table).where(self.id == id_, *self.owned)
        row = (await connection.execute(query)).one_or_none()
        return None if row is None else Position(*row)
