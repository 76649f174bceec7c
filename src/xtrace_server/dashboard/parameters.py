"""The query parameters of pages. Invalid values are ignored, so every address shows a page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from fastapi import Request

from xtrace_server.errors import InvalidRequest
from xtrace_server.operations.paging import Listed, Start

_MAX_PAGE: Final = 1_000_000
_MAX_TEXT: Final = 256 * 1024
_SEPARATOR: Final = "~"
"""Separates a row's id from its sort value; ids do not contain it."""
_MAX_ID: Final = 64
PLACE: Final = ("after", "before", "from")
"""The parameters that select a page of a list."""
_MAX_VALUE: Final = 200


def text(request: Request, name: str) -> str:
    """Returns a parameter; empty if it is missing. Raises `InvalidRequest` for a NUL character."""
    value = request.query_params.get(name, "")[:_MAX_TEXT]
    if "\0" in value:
        raise InvalidRequest(f"the parameter {name} contains a NUL character, which is not allowed")
    return value


def choice(request: Request, name: str, choices: tuple[str, ...]) -> str:
    """Returns a parameter that is one of the choices; the first one by default."""
    value = request.query_params.get(name, "")
    return value if value in choices else choices[0]


def number(request: Request, name: str, default: int, highest: int = _MAX_PAGE) -> int:
    """Returns a parameter that is a whole number from 1 to `highest`."""
    value = request.query_params.get(name, "")
    is_number = value.isascii() and value.isdigit() and len(value) < 20
    return int(value) if is_number and 1 <= int(value) <= highest else default


@dataclass(frozen=True, slots=True)
class Sorting:
    """The order of a table, and what a click on a column heading does."""

    by: str
    descending: bool

    def next_order(self, column: str) -> str:
        """Returns the direction that a click on a column heading selects."""
        return "asc" if column == self.by and self.descending else "desc" if column == self.by else ""

    def aria(self, column: str) -> str:
        """Returns the `aria-sort` value of a column; empty if the table is sorted by another one."""
        if column != self.by:
            return ""
        return "descending" if self.descending else "ascending"


def sorting(request: Request, columns: tuple[str, ...], descending_first: tuple[str, ...]) -> Sorting:
    """Returns the requested order; `descending_first` are the columns that sort descending by default."""
    by = choice(request, "sort", columns)
    order = request.query_params.get("order", "")
    return Sorting(by, order == "desc" if order in ("asc", "desc") else by in descending_first)


@dataclass(frozen=True, slots=True)
class Turning:
    """A page of a list, and the parameters of the previous and next page."""

    first: int
    """The number of the first row on the page, from 1; 0 for an empty page."""
    last: int
    total: int
    size: int
    previous: dict[str, Any]
    """Empty on the first page."""
    following: dict[str, Any]
    """Empty on the last page."""


def start(request: Request, prefix: str = "") -> Start | None:
    """Returns where the requested page begins; None for the first page."""
    for name in ("after", "before"):
        if given := text(request, prefix + name):
            id_, separator, value = given.partition(_SEPARATOR)
            return Start(id_[:_MAX_ID], value if separator else None, is_before=name == "before")
    return None


def place(request: Request, prefix: str = "") -> dict[str, str]:
    """Returns the parameters that select the current page."""
    return {prefix + name: value for name in PLACE if (value := text(request, prefix + name))}


def turning(request: Request, found: Listed[Any], ids: Sequence[object], size: int, prefix: str = "") -> Turning:
    """Returns the page that was found; `ids` are those of its rows. The row numbers come from the address."""
    first = 1 if found.is_first else number(request, f"{prefix}from", 1, 2**53)
    last = first + len(ids) - 1
    if not ids:
        return Turning(0, 0, found.total, size, {}, {})
    previous: dict[str, Any] = {}
    following: dict[str, Any] = {}
    if not found.is_first and first > 1:
        previous = {f"{prefix}before": _cursor(ids[0], found.values[0])} if first > size + 1 else {}
        previous |= {f"{prefix}from": max(first - size, 1)}
    if found.has_more:
        following = {f"{prefix}after": _cursor(ids[-1], found.values[-1]), f"{prefix}from": last + 1}
    return Turning(first, last, found.total, size, previous, following)


def _cursor(id_: object, value: object) -> str:
    """Returns the cursor of a row: its id, with its sort value unless that is long."""
    return f"{id_}{_SEPARATOR}{value}" if len(str(value)) <= _MAX_VALUE else str(id_)
