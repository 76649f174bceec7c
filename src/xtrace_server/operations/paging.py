"""Pages of lists that are turned by key: the two-thousandth costs what the first one does."""

from dataclasses import dataclass
from typing import Generic, TypeVar

_Row = TypeVar("_Row")


@dataclass(frozen=True, slots=True)
class Start:
    """A page begins behind the row of this id, or ends before it."""

    id: str
    value: str | None = None
    """What the list is sorted by, of that row, as its reader saw it; None: as it is now."""
    is_before: bool = False


@dataclass(frozen=True, slots=True)
class Listed(Generic[_Row]):
    """One page of a list; `values` are what its rows are sorted by."""

    rows: list[_Row]
    values: list[str | int]
    total: int
    """How many rows there are on all pages."""
    has_more: bool
    """Whether rows follow."""
    is_first: bool
    """Whether it is the first page: asked for, or because the row that it was to begin behind has gone."""
