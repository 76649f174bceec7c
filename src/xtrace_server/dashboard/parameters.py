"""What the address of a page asks for. What is not valid counts as not given: a page is shown in any case."""

from dataclasses import dataclass
from typing import Any, Final

from fastapi import Request

from xtrace_server.errors import InvalidRequest

_MAX_PAGE: Final = 1_000_000
_MAX_TEXT: Final = 256 * 1024


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
    """What a table is sorted by, and how its column heads sort it otherwise."""

    by: str
    descending: bool

    def next_order(self, column: str) -> str:
        """Returns the direction that a click on a column head asks for."""
        return "asc" if column == self.by and self.descending else "desc" if column == self.by else ""

    def aria(self, column: str) -> str:
        """Returns the direction of a column as `aria-sort` has it; empty for another column."""
        if column != self.by:
            return ""
        return "descending" if self.descending else "ascending"


def sorting(request: Request, columns: tuple[str, ...], descending_first: tuple[str, ...]) -> Sorting:
    """Returns what the address asks for; `descending_first` are the columns whose greatest comes first."""
    by = choice(request, "sort", columns)
    order = request.query_params.get("order", "")
    return Sorting(by, order == "desc" if order in ("asc", "desc") else by in descending_first)


@dataclass(frozen=True, slots=True)
class Pages:
    """Which page of a list is shown."""

    page: int
    size: int
    total: int

    @property
    def first(self) -> int:
        """The number of the first thing on the page, from 1; 0 if there is none."""
        return min((self.page - 1) * self.size + 1, self.total)

    @property
    def last(self) -> int:
        """The number of the last thing on the page."""
        return min(self.page * self.size, self.total)

    @property
    def count(self) -> int:
        """How many pages there are, at least 1."""
        return max(-(-self.total // self.size), 1)


def without(parameters: dict[str, Any], *names: str) -> dict[str, Any]:
    """Returns the parameters but for these."""
    return {name: value for name, value in parameters.items() if name not in names}
