"""Pages by key: one begins behind a row, and so costs the same whatever is before it."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, or_


@dataclass(frozen=True, slots=True)
class Position:
    """Where a page ended: the last row's key, and what it was sorted by."""

    value: str | int
    pk: int


def beyond(
    key: ColumnElement[Any] | None, pk: ColumnElement[int], after: Position, descending: bool
) -> ColumnElement[bool]:
    """The condition that selects the rows behind a position, sorted by `key`, if there is one, and then by `pk`."""
    later = pk < after.pk if descending else pk > after.pk
    if key is None:
        return later
    past = key < after.value if descending else key > after.value
    return or_(past, and_(key == after.value, later))
