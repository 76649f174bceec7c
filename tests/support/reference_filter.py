"""The filter language a second time: evaluates the JSON form directly over plain dictionaries, as WIRE.md puts it."""

from collections.abc import Callable
from typing import Any

TAGS = ("tag1", "tag2", "tag3", "tag4", "tag5")


def matches(filter_: dict[str, Any], meta: dict[str, Any]) -> bool:
    """Whether metadata (with only those fields that are set) matches a valid filter."""
    return all(_term(key, value, meta) for key, value in filter_.items())


def _term(key: str, value: Any, meta: dict[str, Any]) -> bool:
    if key == "$and":
        return all(matches(part, meta) for part in value)
    if key == "$or":
        return any(matches(part, meta) for part in value)
    if key == "$nor":
        return not any(matches(part, meta) for part in value)
    if key == "$not":
        return not matches(value, meta)
    if key == "facets":
        operators = {"$contains": value} if isinstance(value, str) else value
        return all(_facets(name, operand, meta.get("facets", [])) for name, operand in operators.items())
    operators = {"$eq": value} if isinstance(value, str) else value
    return all(_tag(name, operand, meta.get(key)) for name, operand in operators.items())


def _tag(operator: str, operand: Any, tag: str | None) -> bool:
    if operator == "$exists":
        return bool(tag) is operand
    if operator == "$ne":
        return bool(tag != operand)
    if operator == "$nin":
        return tag not in operand
    if tag is None:
        return False
    outcomes: dict[str, Callable[[], bool]] = {
        "$eq": lambda: bool(tag == operand),
        "$gt": lambda: bool(tag > operand),
        "$gte": lambda: bool(tag >= operand),
        "$lt": lambda: bool(tag < operand),
        "$lte": lambda: bool(tag <= operand),
        "$in": lambda: tag in operand,
        "$begins_with": lambda: tag.startswith(operand),
        "$contains": lambda: operand in tag,
    }
    return outcomes[operator]()


def _facets(operator: str, operand: Any, facets: list[str]) -> bool:
    outcomes: dict[str, Callable[[], bool]] = {
        "$contains": lambda: operand in facets,
        "$subset": lambda: set(operand) <= set(facets),
        "$all": lambda: set(operand) <= set(facets),
        "$any": lambda: bool(set(operand) & set(facets)),
        "$none": lambda: not set(operand) & set(facets),
        "$size": lambda: len(facets) == operand,
        "$exists": lambda: bool(facets) == operand,
    }
    return outcomes[operator]()
