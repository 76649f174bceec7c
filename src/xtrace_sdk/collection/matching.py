"""Evaluates a `where` exactly on a record's values."""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from xtrace_sdk.collection.metadata import MetaData, at_path
from xtrace_sdk.collection.values import compares, same
from xtrace_sdk.collection.where import ID, TEXT, And, Condition, Not, Operator, Or, Where


def matches(where: Where, metadata: MetaData, record_id: str = "", text: str | None = None) -> bool:
    """Whether a record with this metadata, in plain JSON types, matches."""
    match where:
        case And(parts):
            return all(matches(part, metadata, record_id, text) for part in parts)
        case Or(parts):
            return any(matches(part, metadata, record_id, text) for part in parts)
        case Not(part):
            return not matches(part, metadata, record_id, text)
        case Condition(path, operator, operand):
            value = record_id if path == ID else text if path == TEXT else at_path(metadata, path)
            return decides(operator, value, operand)


def decides(operator: Operator, value: Any, operand: Any) -> bool:
    """Whether one value matches a condition; None for a missing one."""
    return _DECIDE[operator](value, operand)


def _contains(value: Any, operand: Any) -> bool:
    if isinstance(value, list):
        return _has(value, operand)
    return isinstance(value, str) and isinstance(operand, str) and operand in value


def _has(elements: list[Any], operand: Any) -> bool:
    return any(same(element, operand) for element in elements)


def _like(value: Any, pattern: str, flags: int) -> bool:
    """Matches an SQL LIKE pattern: `%` is any text, `_` any character; a backslash escapes either."""
    if not isinstance(value, str):
        return False
    first, *others = _parts(pattern, flags)
    if not others:
        return first.fullmatch(value) is not None
    *middle, last = others
    found = first.match(value)
    for part in middle:
        # The leftmost match leaves the most room for the rest, so no other needs to be tried.
        found = found and part.search(value, found.end())
    if found is None:
        return False
    at_end = re.compile(f"(?:{last.pattern})\\Z", last.flags).search(value, found.end())
    return at_end is not None


@lru_cache(maxsize=64)
def _parts(pattern: str, flags: int) -> tuple[re.Pattern[str], ...]:
    """Returns the parts between the `%`, each as an expression that matches texts of one length."""
    parts, escaped = [""], False
    for character in pattern:
        if escaped or character not in "%_\\":
            parts[-1] += re.escape(character)
            escaped = False
        elif character == "\\":
            escaped = True
        elif character == "_":
            parts[-1] += "."
        else:
            parts.append("")
    parts[-1] += "\\\\" if escaped else ""
    return tuple(re.compile(part, re.DOTALL | flags) for part in parts)


_DECIDE: Final[dict[Operator, Callable[[Any, Any], bool]]] = {
    "eq": same,
    "in": lambda value, operands: any(same(value, operand) for operand in operands),
    "gt": lambda value, operand: compares("gt", value, operand),
    "gte": lambda value, operand: compares("gte", value, operand),
    "lt": lambda value, operand: compares("lt", value, operand),
    "lte": lambda value, operand: compares("lte", value, operand),
    "exists": lambda value, _: value is not None,
    "contains": _contains,
    "icontains": lambda value, operand: isinstance(value, str) and operand.casefold() in value.casefold(),
    "begins_with": lambda value, operand: isinstance(value, str) and value.startswith(operand),
    "ends_with": lambda value, operand: isinstance(value, str) and value.endswith(operand),
    "like": lambda value, pattern: _like(value, pattern, 0),
    "ilike": lambda value, pattern: _like(value, pattern, re.IGNORECASE),
    "any": lambda value, operands: isinstance(value, list) and any(_has(value, one) for one in operands),
    "all": lambda value, operands: isinstance(value, list) and all(_has(value, one) for one in operands),
    "size": lambda value, count: isinstance(value, list) and len(value) == count,
}
