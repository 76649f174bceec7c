"""Pages of lists by key: page 2,000 costs as much as the first."""

from dataclasses import dataclass
from typing import Generic, TypeVar

_Row = TypeVar("_Row")


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
