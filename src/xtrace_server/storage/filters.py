"""Compiles a metadata filter to SQL; values are always bound parameters.

Equality, `$in`, comparisons and prefixes become ranges of an index that begins with the binding; facet membership
becomes a look-up in the facets' index. The other conditions read the chunk's metadata row. In SQL, a comparison with a
missing tag is NULL. That is equivalent to false except under a negation, so a negation first makes it false.
"""

from typing import Any

from sqlalchemy import ColumnElement, and_, func, literal, not_, or_, select, true
from sqlalchemy.sql.functions import FunctionElement

from xtrace_core.metadata_filter import (
    AllFacets,
    And,
    AnyFacet,
    FacetCount,
    Filter,
    Not,
    Or,
    TagCompare,
    TagExists,
    TagIn,
)
from xtrace_server.storage.indexed_text import compares, is_one_of
from xtrace_server.storage.schema import chunk, facet


def matching(filter_: Filter, binding_pk: int) -> ColumnElement[bool]:
    """Returns the condition for the binding's chunks that the filter matches."""
    condition = _condition(filter_, binding_pk)
    if _goes_by_index(filter_):
        # Every condition already names the binding. If the binding were also named outside, SQLite, which does not know
        # how many chunks it has, would scan all of them instead of combining the indexes of an OR.
        return condition
    return and_(chunk.c.binding_pk == binding_pk, condition)


def _goes_by_index(filter_: Filter) -> bool:
    match filter_:
        case And(parts):
            return any(_goes_by_index(part) for part in parts)
        case Or(parts):
            return all(_goes_by_index(part) for part in parts)
        case TagCompare(_, comparison, _):
            return comparison != "contains"
        case TagIn() | TagExists() | AnyFacet():
            return True
        case AllFacets(tokens):
            return bool(tokens)
        case _:
            return False


def _condition(filter_: Filter, binding_pk: int) -> ColumnElement[bool]:
    match filter_:
        case And(parts):
            return and_(true(), *[_condition(part, binding_pk) for part in parts])
        case Or(parts):
            return or_(*[_condition(part, binding_pk) for part in parts])
        case Not(part):
            return not_(func.coalesce(_condition(part, binding_pk), False))
        case TagCompare(tag, "contains", value):
            return Position(chunk.c[tag], value) > 0
        case TagCompare(tag, comparison, value):
            return and_(chunk.c.binding_pk == binding_pk, _comparison(chunk.c[tag], comparison, value))
        case TagIn(tag, values):
            return and_(chunk.c.binding_pk == binding_pk, is_one_of(chunk.c[tag], values))
        case TagExists(tag):
            return and_(chunk.c.binding_pk == binding_pk, compares(chunk.c[tag], "gt", ""))
        case AnyFacet(tokens):
            return chunk.c.pk.in_(select(facet.c.chunk_pk).where(*_facets(binding_pk, tokens)))
        case AllFacets(()):
            return true()
        case AllFacets(tokens):
            holders = select(facet.c.chunk_pk).where(*_facets(binding_pk, tokens))
            return chunk.c.pk.in_(holders.group_by(facet.c.chunk_pk).having(func.count() == len(tokens)))
        case FacetCount(count):
            return chunk.c.facet_count == count


def successor(prefix: str) -> str | None:
    """Returns the smallest string above all strings with this prefix, by code point; None if there is none."""
    for end in range(len(prefix), 0, -1):
        last = ord(prefix[end - 1])
        if last != 0x10FFFF:
            # U+D800 to U+DFFF are not characters.
            following = 0xE000 if last == 0xD7FF else last + 1
            return prefix[: end - 1] + chr(following)
    return None


def _comparison(column: ColumnElement[Any], comparison: str, value: str) -> ColumnElement[bool]:
    if comparison != "begins_with":
        return compares(column, comparison, value)
    end, above = successor(value), compares(column, "gte", value)
    return above if end is None else and_(above, compares(column, "lt", end))


def _facets(binding_pk: int, tokens: tuple[str, ...]) -> list[ColumnElement[bool]]:
    return [facet.c.binding_pk == binding_pk, is_one_of(facet.c.token, tokens)]


class Position(FunctionElement[int]):
    """The position of a string in another, from 1; 0 if it is absent. LIKE would ignore case and expand wildcards.

    Each dialect compiles it to its own function.
    """

    inherit_cache = True
    name = "position"

    def __init__(self, column: ColumnElement[Any], text: str) -> None:
        super().__init__(column, literal(text))
