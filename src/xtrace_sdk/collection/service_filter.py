"""The part of a `where` that the service can evaluate with hashes: it never loses a match, and is as strict as
possible.

For each condition there are two filters for the service: every matching record passes the *wide* one, and only
matching records pass the *narrow* one. A negation swaps the two. If they are equal, the service decides exactly. True
and False represent filters that match all records or none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias

from xtrace_core import metadata_filter
from xtrace_core.metadata_filter import DEFAULT_LIMITS, FilterLimits, parse_filter
from xtrace_sdk.collection.filterable import FilterableFields
from xtrace_sdk.collection.tokens import Tokens
from xtrace_sdk.collection.values import Ordering, is_number
from xtrace_sdk.collection.where import ID, TEXT, And, Condition, Not, Or, Where

ServiceFilter = dict[str, Any]
Bound: TypeAlias = bool | ServiceFilter
_Join = Literal["$and", "$or"]

_LIMITS: Final = FilterLimits(DEFAULT_LIMITS.depth - 2, DEFAULT_LIMITS.conditions - 8, DEFAULT_LIMITS.values)
"""Less than the service accepts, because the condition on the namespace is added."""


@dataclass(frozen=True, slots=True)
class Bounds:
    wide: Bound
    narrow: Bound

    @property
    def is_exact(self) -> bool:
        """Whether the service alone decides the filter."""
        return self.wide == self.narrow


_UNDECIDED: Final = Bounds(True, False)


def bounds(where: Where, fields: FilterableFields, tokens: Tokens) -> Bounds:
    """Returns both filters of a `where`, for records stored with the hashes of these fields.

    Conditions that exceed the service's limits are left to the client.
    """
    found = _Translation(fields, tokens).of(where)
    return found if all(map(_is_allowed, (found.wide, found.narrow))) else _UNDECIDED


def _is_allowed(bound: Bound) -> bool:
    if isinstance(bound, bool):
        return True
    try:
        parse_filter(bound, _LIMITS)
    except metadata_filter.InvalidFilter:
        return False
    return True


@dataclass(frozen=True, slots=True)
class _Translation:
    fields: FilterableFields
    tokens: Tokens

    def of(self, where: Where) -> Bounds:
        match where:
            case And(parts):
                return self._joined("$and", parts)
            case Or(parts):
                return self._joined("$or", parts)
            case Not(part):
                inner = self.of(part)
                return Bounds(_negated(inner.narrow), _negated(inner.wide))
            case Condition(path, operator, operand):
                if path in (ID, TEXT) or not self.fields.covers(path):
                    return _UNDECIDED
                return self._condition(path, operator, operand)

    def _joined(self, join: _Join, parts: Sequence[Where]) -> Bounds:
        found = [self.of(part) for part in parts]
        return Bounds(_join(join, [one.wide for one in found]), _join(join, [one.narrow for one in found]))

    def _condition(self, path: str, operator: str, operand: Any) -> Bounds:
        match operator:
            case "eq":
                return self._equals(path, operand)
            case "in":
                return self._among(path, operand)
            case "exists":
                return _exact(_any([self.tokens.has(path)]))
            case "contains":
                return self._contains(path, operand)
            case "any":
                return self._any_of(path, operand)
            case "all":
                return self._all_of(path, operand)
            case "size":
                return Bounds(_any([self.tokens.is_list(path)]), False)
            case "gt" | "gte" | "lt" | "lte":
                return self._ordered(path, operator, operand)
        return Bounds(self._scalar(path), False)  # about texts

    def _equals(self, path: str, operand: Any) -> Bounds:
        if operand is None:
            return _exact(_none([self.tokens.has(path)]))
        if isinstance(operand, list):
            elements = [token for one in operand if (token := self.tokens.element(path, one)) is not None]
            return Bounds(_all([self.tokens.is_list(path), *elements]), False)
        token = None if isinstance(operand, datetime) else self.tokens.equals(path, operand)
        return Bounds(self._scalar(path), False) if token is None else _exact(_any([token]))

    def _among(self, path: str, operands: Sequence[Any]) -> Bounds:
        tokens = [None if isinstance(one, datetime) else self.tokens.equals(path, one) for one in operands]
        if None not in operands and operands and None not in tokens:
            return _exact(_any([token for token in tokens if token is not None]))
        found = [self._equals(path, one) for one in operands]
        return Bounds(_join("$or", [one.wide for one in found]), _join("$or", [one.narrow for one in found]))

    def _contains(self, path: str, operand: Any) -> Bounds:
        element = self._element(path, operand)
        if not isinstance(operand, str):
            return element
        # A text may also contain it.
        return Bounds(_join("$or", [element.wide, self._scalar(path)]), element.narrow)

    def _any_of(self, path: str, operands: Sequence[Any]) -> Bounds:
        tokens = [None if isinstance(one, datetime) else self.tokens.element(path, one) for one in operands]
        if operands and None not in tokens:
            return _exact(_any([token for token in tokens if token is not None]))
        found = [self._element(path, one) for one in operands]
        return Bounds(_join("$or", [one.wide for one in found]), _join("$or", [one.narrow for one in found]))

    def _all_of(self, path: str, operands: Sequence[Any]) -> Bounds:
        tokens = [None if isinstance(one, datetime) else self.tokens.element(path, one) for one in operands]
        known = [token for token in tokens if token is not None]
        wide = _all([self.tokens.is_list(path), *known])
        return Bounds(wide, wide if len(known) == len(operands) else False)

    def _element(self, path: str, operand: Any) -> Bounds:
        token = None if isinstance(operand, datetime) else self.tokens.element(path, operand)
        return Bounds(_any([self.tokens.is_list(path)]), False) if token is None else _exact(_any([token]))

    def _ordered(self, path: str, ordering: Ordering, operand: Any) -> Bounds:
        span = self.fields.range_of(path)
        if span is None or not is_number(operand):
            return Bounds(self._scalar(path), False)
        return Bounds(_any([self.tokens.bucket(path, one) for one in span.covering(ordering, operand)]), False)

    def _scalar(self, path: str) -> Bound:
        """The condition that the field exists and is not a list."""
        return {"facets": {"$any": [self.tokens.has(path)], "$none": [self.tokens.is_list(path)]}}


def _exact(bound: Bound) -> Bounds:
    return Bounds(bound, bound)


def _any(tokens: list[str]) -> Bound:
    return {"facets": {"$any": tokens}}


def _none(tokens: list[str]) -> Bound:
    return {"facets": {"$none": tokens}}


def _all(tokens: list[str]) -> Bound:
    return {"facets": {"$all": tokens}}


def _negated(bound: Bound) -> Bound:
    return not bound if isinstance(bound, bool) else {"$not": bound}


def _join(join: _Join, found: Sequence[Bound]) -> Bound:
    deciding = join == "$or"  # one True decides an OR, one False an AND
    if any(one is deciding for one in found):
        return deciding
    left = [one for one in found if not isinstance(one, bool)]
    if not left:
        return not deciding
    return left[0] if len(left) == 1 else {join: left}
