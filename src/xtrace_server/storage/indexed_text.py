"""Comparisons of texts that use an index, although texts may be longer than an index entry.

SQLite's indexes contain whole texts. PostgreSQL's entries are limited to 2,704 bytes, so they contain the first
`INDEXED_CHARACTERS` of a text. A shorter value compares with these as with the whole text; a longer one is first
compared with these, and then with the whole text.
"""

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, literal, or_
from sqlalchemy.sql.functions import FunctionElement

INDEXED_CHARACTERS: Final = 256
"""At most 1,024 bytes."""

_COMPARISONS: Final[Mapping[str, tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any]]]] = {
    "eq": (operator.eq, operator.eq),
    "gt": (operator.gt, operator.ge),
    "gte": (operator.ge, operator.ge),
    "lt": (operator.lt, operator.le),
    "lte": (operator.le, operator.le),
}
"""Each comparison of whole texts, and the one that it implies for their beginnings."""


class Indexed(FunctionElement[str]):
    """The indexed part of a text; each dialect compiles it."""

    inherit_cache = True
    name = "indexed"

    def __init__(self, of: ColumnElement[str]) -> None:
        super().__init__(of)
        self.type = of.type


def compares(column: ColumnElement[Any], comparison: str, value: str) -> ColumnElement[bool]:
    """Returns the condition that the column is `eq`, `gt`, `gte`, `lt` or `lte` the value, by code points."""
    whole, beginnings = _COMPARISONS[comparison]
    if len(value) < INDEXED_CHARACTERS:
        condition: ColumnElement[bool] = whole(Indexed(column), value)
        return condition
    return and_(beginnings(Indexed(column), Indexed(literal(value, column.type))), whole(column, value))


def is_one_of(column: ColumnElement[Any], values: Iterable[str]) -> ColumnElement[bool]:
    """Returns the condition that the column is one of the values."""
    short: list[str] = []
    long: list[str] = []
    for value in values:
        (short if len(value) < INDEXED_CHARACTERS else long).append(value)
    conditions: list[ColumnElement[bool]] = [Indexed(column).in_(short)] if short or not long else []
    if long:
        beginnings = [Indexed(literal(value, column.type)) for value in long]
        conditions.append(and_(Indexed(column).in_(beginnings), column.in_(long)))
    return or_(*conditions)
