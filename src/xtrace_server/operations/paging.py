"""Pages of lists by key: page 2,000 costs as much as the first."""

from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from xtrace_server.storage.database import Connection
from xtrace_server.storage.keyset import Position, SortedList

_Row = TypeVar("_Row")
_Shown = TypeVar("_Shown")


@dataclass(frozen=True, slots=True)
class Start:
    """A page begins after the row with this id, or ends before it."""

    id: str
    value: str | None = None
    """The row's sorting value as the reader saw it; None for its current value."""
    is_before: bool = False


@dataclass(frozen=True, slots=True)
class Listed(Generic[_Row]):
    """One page of a list; `values` are the sorting values of its rows."""

    rows: list[_Row]
    values: list[str | int]
    total: int
    """The number of rows on all pages."""
    has_more: bool
    """Whether more rows follow."""
    is_first: bool
    """Whether it is the first page, as requested or because its starting row is gone."""


async def page_of(
    connection: Connection, listed: SortedList[_Row], start: Start | None, size: int, *, descending: bool = False
) -> Listed[_Row]:
    """Returns the page of a list that begins at `start`; the first one without it, or if its row is gone."""
    after = None if start is None else await _position(connection, listed, start)
    is_backward = after is not None and start is not None and start.is_before
    found = await listed.read(connection, after, descending=descending != is_backward, limit=size + 1)
    if is_backward and len(found) <= size:
        return await page_of(connection, listed, None, size, descending=descending)
    page = found[:size]
    if is_backward:
        page.reverse()
    rows, values = [row for row, _ in page], [value for _, value in page]
    total = await listed.count(connection)
    return Listed(rows, values, total, is_backward or len(found) > size, after is None)


def replace_rows(found: Listed[Any], rows: list[_Shown]) -> Listed[_Shown]:
    """Returns the same page with other rows, one for each."""
    return Listed(rows, found.values, found.total, found.has_more, found.is_first)


async def _position(connection: Connection, listed: SortedList[_Row], start: Start) -> Position | None:
    """Where the page begins, with the value that its reader saw, if that can be one; None if the row is gone."""
    now = await listed.position_of(connection, start.id)
    if now is None or start.value is None:
        return now
    if isinstance(now.value, str):
        return replace(now, value=start.value)
    is_number = start.value.isascii() and start.value.isdigit() and len(start.value) < 19
    return replace(now, value=int(start.value)) if is_number else now
