"""`where`: the filter language for records, parsed and checked once into a small tree.

    Where
    ├── And(parts), Or(parts), Not(part)          `And(())` matches every record, `Or(())` none
    └── Condition(path, operator, operand)        false where the value is missing, but for `eq` and `in` with None

The other operators are combinations of these: `$ne`, `$nin`, `$none` and `$nor` are negations, `$between` is two
comparisons. So evaluating a tree needs few cases, and logic has only two values.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Final, Literal, TypeAlias

import msgspec
import numpy as np

from xtrace_core.metadata_filter import MAX_CONDITIONS, MAX_DEPTH, MAX_VALUES
from xtrace_sdk.arguments import shown
from xtrace_sdk.collection.metadata import json_value
from xtrace_sdk.collection.values import as_moment
from xtrace_sdk.errors import InvalidFilter, InvalidRecord

ID: Final = "$id"
"""Used as a path: the record's id."""
TEXT: Final = "$text"
"""Used as a path: the record's text."""
MAX_PATH_CHARACTERS: Final = 1024

Operator = Literal[
    "eq", "in", "gt", "gte", "lt", "lte", "exists",
    "contains", "icontains", "begins_with", "ends_with", "like", "ilike",
    "any", "all", "size",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class And:
    parts: tuple["Where", ...]


@dataclass(frozen=True, slots=True)
class Or:
    parts: tuple["Where", ...]


@dataclass(frozen=True, slots=True)
class Not:
    part: "Where"


@dataclass(frozen=True, slots=True)
class Condition:
    path: str
    operator: Operator
    operand: Any
    """A plain JSON value or a `datetime` with an offset; for `in`, `any` and `all`, a tuple of these."""


Where: TypeAlias = And | Or | Not | Condition

EVERYTHING: Final[Where] = And(())
NOTHING: Final[Where] = Or(())


def parse_where(value: Any, *, is_chosen: bool = False) -> Where:
    """Parses a filter given as an object, as JSON text, or as None (every record).

    Raises `InvalidFilter`. With `is_chosen`, for changes that cannot be undone, None and JSON's null are also
    rejected, because they are probably mistakes.
    """
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            raise InvalidFilter("where is a text that is not valid JSON") from None
    if value is None and is_chosen:
        raise InvalidFilter("where is null, expected an object; {} matches every record")
    return EVERYTHING if value is None else _Parser().where(value, "where", 1)


class _Parser:
    """Counts the parts of a filter while parsing it, to limit its cost."""

    def __init__(self) -> None:
        self._conditions = 0
        self._values = 0

    def where(self, value: Any, place: str, depth: int) -> Where:
        if depth > MAX_DEPTH:
            raise InvalidFilter(f"where nests deeper than {MAX_DEPTH} levels")
        if not isinstance(value, Mapping):
            raise InvalidFilter(f"{place} is {_kind(value)}, expected an object")
        self._count_condition()
        return _joined(And, [self._term(key, operand, place, depth) for key, operand in value.items()])

    def _term(self, key: Any, operand: Any, place: str, depth: int) -> Where:
        if not isinstance(key, str) or len(key) > MAX_PATH_CHARACTERS:
            raise InvalidFilter(f"{place} has a key that is not a path of at most {MAX_PATH_CHARACTERS} characters")
        place = f"{place}.{_short(key)}"
        if key == "$not":
            return Not(self.where(operand, place, depth + 1))
        if key in ("$and", "$or", "$nor"):
            if not isinstance(operand, list | tuple) or not operand:
                raise InvalidFilter(f"{place} is {_kind(operand)}, expected a list of at least one filter")
            parts = [self.where(part, f"{place}[{i}]", depth + 1) for i, part in enumerate(operand)]
            return _joined(And, parts) if key == "$and" else _unless(_joined(Or, parts), key == "$nor")
        if key.startswith("$") and key not in (ID, TEXT):
            raise InvalidFilter(
                f"{place} is not a logical operator, expected $and, $or, $nor or $not, {ID} or "
                f"{TEXT}; put operators on a field inside it, as in {{'year': {{'$gt': 2020}}}}"
            )
        return self._field(key, operand, place, depth)

    def _field(self, path: str, operand: Any, place: str, depth: int) -> Where:
        if not isinstance(operand, Mapping) or not any(str(name).startswith("$") for name in operand):
            self._count_condition()
            return Condition(path, "eq", self._json(operand, place))
        if depth > MAX_DEPTH:
            raise InvalidFilter(f"where nests deeper than {MAX_DEPTH} levels")
        parts: list[Where] = []
        for name, value in operand.items():
            inner = f"{place}.{_short(name)}"
            self._count_condition()
            if name == "$not":
                parts.append(Not(self._negated(path, value, inner, depth + 1)))
            elif name in _OPERATORS:
                parts.append(_OPERATORS[name](self, path, value, inner))
            else:
                raise InvalidFilter(f"{inner} is not an operator, expected one of {', '.join(OPERATORS)}")
        return _joined(And, parts)

    def _negated(self, path: str, operand: Any, place: str, depth: int) -> Where:
        if not isinstance(operand, Mapping) or not operand or not all(str(name).startswith("$") for name in operand):
            raise InvalidFilter(f"{place} is {_kind(operand)}, expected an object of operators; $ne negates equality")
        return self._field(path, operand, place, depth)

    # Operators

    def equal(self, path: str, operand: Any, place: str) -> Where:
        return Condition(path, "eq", self._json(operand, place))

    def among(self, path: str, operand: Any, place: str) -> Where:
        return Condition(path, "in", self._list(operand, place, self._json))

    def ordered(self, operator: Operator, path: str, operand: Any, place: str) -> Where:
        comparable = self._comparable(operand, place)
        return NOTHING if comparable is None else Condition(path, operator, comparable)

    def between(self, path: str, operand: Any, place: str) -> Where:
        bounds = self._list(operand, place, self._comparable)
        if len(bounds) != 2:
            raise InvalidFilter(f"{place} has {len(bounds)} elements, expected [lowest, highest]")
        if None in bounds:
            return NOTHING
        return And((Condition(path, "gte", bounds[0]), Condition(path, "lte", bounds[1])))

    def exists(self, path: str, operand: Any, place: str) -> Where:
        if not isinstance(operand, bool):
            raise InvalidFilter(f"{place} is {_kind(operand)}, expected true or false")
        return _unless(Condition(path, "exists", True), not operand)

    def contains(self, path: str, operand: Any, place: str) -> Where:
        return Condition(path, "contains", self._scalar(operand, place))

    def text(self, operator: Operator, path: str, operand: Any, place: str) -> Where:
        if not isinstance(operand, str):
            raise InvalidFilter(f"{place} is {_kind(operand)}, expected a text")
        return Condition(path, operator, self._json(operand, place))

    def elements(self, operator: Operator, path: str, operand: Any, place: str) -> Where:
        return Condition(path, operator, self._list(operand, place, self._scalar))

    def size(self, path: str, operand: Any, place: str) -> Where:
        if isinstance(operand, bool) or not isinstance(operand, int) or operand < 0:
            raise InvalidFilter(f"{place} is {_kind(operand)}, expected a whole number from 0")
        return Condition(path, "size", int(operand))

    # Operands

    def _json(self, value: Any, place: str) -> Any:
        if isinstance(value, date):
            return as_moment(value)
        try:
            plain = json_value(value)
            msgspec.json.encode(plain)
        except InvalidRecord as error:
            raise InvalidFilter(f"{place}: {str(error).removeprefix('its metadata ')}") from None
        except UnicodeEncodeError:  # its attributes contain the text
            raise InvalidFilter(
                f"{place} contains unpaired surrogates, expected text that can be encoded as UTF-8"
            ) from None
        if isinstance(plain, list | dict):
            self._count_values(len(plain))
        return plain

    def _scalar(self, value: Any, place: str) -> Any:
        if isinstance(value, Mapping | list | tuple | set | frozenset):
            raise InvalidFilter(f"{place} is {_kind(value)}, expected a text, a number, a time, true, false or null")
        return self._json(value, place)

    def _comparable(self, value: Any, place: str) -> Any:
        plain = self._scalar(value, place)
        if isinstance(plain, bool):
            raise InvalidFilter(f"{place} is {_kind(value)}, expected a number, a text or a time")
        return plain

    def _list(self, value: Any, place: str, element: Callable[[Any, str], Any]) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple | set | frozenset | np.ndarray):
            raise InvalidFilter(f"{place} is {_kind(value)}, expected a list")
        self._count_values(len(value))
        return tuple(element(one, f"{place}[{i}]") for i, one in enumerate(value))

    def _count_condition(self) -> None:
        self._conditions += 1
        if self._conditions > MAX_CONDITIONS:
            raise InvalidFilter(f"where has more than {MAX_CONDITIONS} operators and nested filters")

    def _count_values(self, count: int) -> None:
        self._values += count
        if self._values > MAX_VALUES:
            raise InvalidFilter(f"where has more than {MAX_VALUES} values in its lists")


_Build: TypeAlias = Callable[[_Parser, str, Any, str], Where]


def _ordered(operator: Operator) -> _Build:
    return lambda parser, path, operand, place: parser.ordered(operator, path, operand, place)


def _text(operator: Operator) -> _Build:
    return lambda parser, path, operand, place: parser.text(operator, path, operand, place)


def _elements(operator: Operator) -> _Build:
    return lambda parser, path, operand, place: parser.elements(operator, path, operand, place)


def _not(build: _Build) -> _Build:
    return lambda parser, path, operand, place: Not(build(parser, path, operand, place))


_OPERATORS: Final[dict[str, _Build]] = {
    "$eq": _Parser.equal,
    "$ne": _not(_Parser.equal),
    "$in": _Parser.among,
    "$nin": _not(_Parser.among),
    "$gt": _ordered("gt"),
    "$gte": _ordered("gte"),
    "$lt": _ordered("lt"),
    "$lte": _ordered("lte"),
    "$between": _Parser.between,
    "$exists": _Parser.exists,
    "$contains": _Parser.contains,
    "$icontains": _text("icontains"),
    "$begins_with": _text("begins_with"),
    "$ends_with": _text("ends_with"),
    "$like": _text("like"),
    "$ilike": _text("ilike"),
    "$any": _elements("any"),
    "$all": _elements("all"),
    "$none": _not(_elements("any")),
    "$size": _Parser.size,
}

OPERATORS: Final = (*_OPERATORS, "$not")
"""The operators on a field."""


def _joined(join: type[And] | type[Or], parts: list[Where]) -> Where:
    return parts[0] if len(parts) == 1 else join(tuple(parts))


def _unless(where: Where, is_negated: bool) -> Where:
    return Not(where) if is_negated else where


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "an object" if value else "an empty object"
    if isinstance(value, list | tuple | set | frozenset):
        return "a list" if value else "an empty list"
    return "null" if value is None else "a text" if isinstance(value, str) else shown(value)


def _short(key: Any) -> str:
    text = str(key)
    return text if len(text) <= 64 else text[:64] + "…"
