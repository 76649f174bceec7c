"""The language that selects chunks by their metadata: parsed and checked once, into one small tree.

`parse_filter` takes what a client sends (an object, its JSON text, or None for "every chunk") and returns a `Filter`:

    Filter
    ├── And(parts), Or(parts), Not(part)          `And(())` matches every chunk
    ├── TagCompare(tag, comparison, value)        false for a chunk without the tag
    ├── TagIn(tag, values)                        likewise
    ├── TagExists(tag)                            present and not empty
    ├── AnyFacet(tokens), AllFacets(tokens)       at least one of them; every one of them
    └── FacetCount(count)                         exactly this number

The other operators are combinations of these: `$ne`, `$nin`, `$none` and `$nor` are negations, `$exists` of facets is
the negation of a count of 0. Truth has two values: a comparison with a missing tag is false, and its negation true.
Strings compare by code point. To evaluate a filter (the service compiles it to SQL), the tree is enough.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

import msgspec

from xtrace_core.metadata import unique
from xtrace_core.wire import TAGS, Tag

MAX_DEPTH = 32
"""Nesting depth of `$and`, `$or`, `$nor` and `$not`."""
MAX_CONDITIONS = 500
"""The maximum number of operators and nested filters in one filter."""
MAX_VALUES = 10_000
"""The maximum number of values in all lists of one filter (`$in`, `$any`, …) together."""

_MAX_COUNT = 2**31 - 1


@dataclass(frozen=True, slots=True)
class FilterLimits:
    """The maximum size of one filter: see `MAX_DEPTH`, `MAX_CONDITIONS`, `MAX_VALUES`."""

    depth: int = MAX_DEPTH
    conditions: int = MAX_CONDITIONS
    values: int = MAX_VALUES


DEFAULT_LIMITS = FilterLimits()

Comparison = Literal["eq", "gt", "gte", "lt", "lte", "begins_with", "contains"]


@dataclass(frozen=True, slots=True)
class And:
    parts: tuple["Filter", ...]


@dataclass(frozen=True, slots=True)
class Or:
    parts: tuple["Filter", ...]


@dataclass(frozen=True, slots=True)
class Not:
    part: "Filter"


@dataclass(frozen=True, slots=True)
class TagCompare:
    tag: Tag
    comparison: Comparison
    value: str


@dataclass(frozen=True, slots=True)
class TagIn:
    tag: Tag
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TagExists:
    tag: Tag


@dataclass(frozen=True, slots=True)
class AnyFacet:
    tokens: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AllFacets:
    tokens: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FacetCount:
    count: int


Filter: TypeAlias = And | Or | Not | TagCompare | TagIn | TagExists | AnyFacet | AllFacets | FacetCount

EVERY_CHUNK: Filter = And(())


class InvalidFilter(ValueError):
    """A filter with an unknown field or operator, a value of the wrong type, or too many parts; the message says which,
    and where.
    """


def parse_filter(value: Any, limits: FilterLimits = DEFAULT_LIMITS) -> Filter:
    """Parses a filter: an object, its JSON text, or None (every chunk). Raises `InvalidFilter`."""
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            raise InvalidFilter("meta_filter is a string that is not valid JSON") from None
    if value is None:
        return EVERY_CHUNK
    return _Parser(limits).filter(value, "meta_filter", 1)


def parse_chosen_filter(value: Any, limits: FilterLimits = DEFAULT_LIMITS) -> Filter:
    """Parses the filter of a change that cannot be undone: one that is missing by mistake must not match every chunk.

    Raises `InvalidFilter`, also for None and JSON's null.
    """
    if value is None or (isinstance(value, str) and value.strip() == "null"):
        raise InvalidFilter("meta_filter is null, expected an object; {} matches every chunk of the context")
    return parse_filter(value, limits)


class _Parser:
    """Counts the parts of one filter while parsing it, so that its cost is bounded."""

    def __init__(self, limits: FilterLimits) -> None:
        self._limits = limits
        self._conditions = 0
        self._values = 0

    def filter(self, value: Any, where: str, depth: int) -> Filter:
        if depth > self._limits.depth:
            raise InvalidFilter(f"meta_filter nests deeper than {self._limits.depth} levels")
        if not isinstance(value, dict):
            raise InvalidFilter(f"{where} is {_kind(value)}, expected an object")
        self._count_condition()
        parts: list[Filter] = []
        for key, operand in value.items():
            parts += self._term(key, operand, where, depth)
        return _joined(And, parts)

    def _term(self, key: Any, operand: Any, where: str, depth: int) -> list[Filter]:
        path = f"{where}.{_shown(key)}"
        if key in TAGS:
            return self._field(_TAG_OPERATORS, "$eq", key, operand, path)
        if key == "facets":
            return self._field(_FACET_OPERATORS, "$contains", key, operand, path)
        if key == "$not":
            return [Not(self.filter(operand, path, depth + 1))]
        if key in ("$and", "$or", "$nor"):
            if not isinstance(operand, list | tuple) or not operand:
                raise InvalidFilter(f"{path} is {_kind(operand)}, expected a list of at least one filter")
            parts = [self.filter(part, f"{path}[{i}]", depth + 1) for i, part in enumerate(operand)]
            if key == "$and":
                return [_joined(And, parts)]
            return [_joined(Or, parts) if key == "$or" else Not(_joined(Or, parts))]
        raise InvalidFilter(
            f"{path} is neither a field nor an operator, expected tag1 to tag5, facets, $and, $or, $nor or $not"
        )

    def _field(
        self, operators: dict[str, "_Operator"], default: str, field: str, operand: Any, path: str
    ) -> list[Filter]:
        if isinstance(operand, str):
            operand = {default: operand}
        if not isinstance(operand, dict) or not operand:
            raise InvalidFilter(f"{path} is {_kind(operand)}, expected a string or an object of operators")
        parts = []
        for name, value in operand.items():
            if name not in operators:
                known = ", ".join(operators)
                raise InvalidFilter(f"{path}.{_shown(name)} is not an operator on {field}, expected one of {known}")
            self._count_condition()
            check, build = operators[name]
            parts.append(build(field, check(self, value, f"{path}.{name}")))
        return parts

    def string(self, value: Any, where: str) -> str:
        if not isinstance(value, str):
            raise InvalidFilter(f"{where} is {_kind(value)}, expected a string")
        if "\0" in value:
            raise InvalidFilter(f"{where} has a NUL character, which is not allowed")
        return value

    def strings(self, value: Any, where: str) -> tuple[str, ...]:
        if not isinstance(value, list | tuple):
            raise InvalidFilter(f"{where} is {_kind(value)}, expected a list of strings")
        self._values += len(value)
        if self._values > self._limits.values:
            raise InvalidFilter(f"meta_filter has more than {self._limits.values} values in its lists")
        return tuple(unique([self.string(item, f"{where}[{i}]") for i, item in enumerate(value)]))

    def boolean(self, value: Any, where: str) -> bool:
        if not isinstance(value, bool):
            raise InvalidFilter(f"{where} is {_kind(value)}, expected true or false")
        return value

    def count(self, value: Any, where: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise InvalidFilter(f"{where} is {_kind(value)}, expected a whole number from 0")
        return min(value, _MAX_COUNT)

    def _count_condition(self) -> None:
        self._conditions += 1
        if self._conditions > self._limits.conditions:
            raise InvalidFilter(f"meta_filter has more than {self._limits.conditions} operators and nested filters")


_Operator: TypeAlias = tuple[Callable[[_Parser, Any, str], Any], Callable[[Any, Any], Filter]]


def _compare(comparison: Comparison) -> _Operator:
    return _Parser.string, lambda tag, value: TagCompare(tag, comparison, value)


def _unless(condition: Filter, holds: bool) -> Filter:
    return condition if holds else Not(condition)


_TAG_OPERATORS: dict[str, _Operator] = {
    "$eq": _compare("eq"),
    "$ne": (_Parser.string, lambda tag, value: Not(TagCompare(tag, "eq", value))),
    "$gt": _compare("gt"),
    "$gte": _compare("gte"),
    "$lt": _compare("lt"),
    "$lte": _compare("lte"),
    "$in": (_Parser.strings, TagIn),
    "$nin": (_Parser.strings, lambda tag, values: Not(TagIn(tag, values))),
    "$begins_with": _compare("begins_with"),
    "$contains": _compare("contains"),
    "$exists": (_Parser.boolean, lambda tag, holds: _unless(TagExists(tag), holds)),
}

_FACET_OPERATORS: dict[str, _Operator] = {
    "$contains": (_Parser.string, lambda _, token: AnyFacet((token,))),
    "$subset": (_Parser.strings, lambda _, tokens: AllFacets(tokens)),
    "$all": (_Parser.strings, lambda _, tokens: AllFacets(tokens)),
    "$any": (_Parser.strings, lambda _, tokens: AnyFacet(tokens)),
    "$none": (_Parser.strings, lambda _, tokens: Not(AnyFacet(tokens))),
    "$size": (_Parser.count, lambda _, count: FacetCount(count)),
    "$exists": (_Parser.boolean, lambda _, holds: _unless(FacetCount(0), not holds)),
}

TAG_OPERATORS = tuple(_TAG_OPERATORS)
FACET_OPERATORS = tuple(_FACET_OPERATORS)


def _joined(join: type[And] | type[Or], parts: list[Filter]) -> Filter:
    return parts[0] if len(parts) == 1 else cast("Filter", join(tuple(parts)))


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    kinds = {
        str: "a string",
        int: "a number",
        float: "a number",
        list: "a list",
        tuple: "a list",
        dict: "an object",
    }
    kind = kinds.get(type(value), f"a {type(value).__name__}")
    if isinstance(value, int) and abs(value) < 2**63:
        return f"the number {value}"
    return f"an empty {kind.split()[-1]}" if isinstance(value, list | tuple | dict) and not value else kind


def _shown(key: Any) -> str:
    text = str(key)
    return text if len(text) <= 64 else text[:64] + "…"
