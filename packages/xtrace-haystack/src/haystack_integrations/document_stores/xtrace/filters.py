"""Translates Haystack's filters to those of a collection, on records as `documents` creates them."""

from dataclasses import fields
from datetime import datetime
from typing import Any, Final

from haystack import Document
from haystack.errors import FilterError

Where = dict[str, Any]


def where(filters: dict[str, Any] | None) -> Where:
    """Returns the equivalent XTrace filter; `{}` for None. Raises `FilterError` if the filter is not valid."""
    return {} if not filters else _filter(filters)


def path(field: str) -> str:
    """Returns the path of a document's field in a record's metadata; a bare name is a field of `meta`."""
    return _FIELDS.get(field) or (field if "." in field else f"meta.{field}")


def _filter(filters: Any) -> Where:
    if not isinstance(filters, dict):
        raise FilterError(f"the filter is of type {type(filters).__name__}, expected a dictionary")
    if "conditions" in filters or filters.get("operator") in ("AND", "OR", "NOT"):
        return _group(filters)
    return _condition(filters)


def _group(filters: dict[str, Any]) -> Where:
    _check_keys(filters, "operator", "conditions")
    parts = [_filter(one) for one in filters["conditions"]]
    match filters["operator"]:
        case "AND":
            return _all(parts)
        case "OR":
            return {"$or": parts} if parts else {"$not": {}}
        case "NOT":
            return {"$not": _all(parts)}
    raise FilterError(f"unknown logical operator {filters['operator']!r}, expected AND, OR or NOT")


def _all(parts: list[Where]) -> Where:
    return {"$and": parts} if parts else {}


def _condition(filters: dict[str, Any]) -> Where:
    _check_keys(filters, "field", "operator", "value")
    operator, value = filters["operator"], filters["value"]
    if operator not in _OPERATORS:
        raise FilterError(f"unknown operator {operator!r}, expected one of {', '.join(_OPERATORS)}")
    if operator in ("in", "not in") and not isinstance(value, list):
        raise FilterError(f"the value of {operator!r} is of type {type(value).__name__}, expected a list")
    if operator in (">", ">=", "<", "<="):
        _check_comparable(value)
    return {path(filters["field"]): {_OPERATORS[operator]: value}}


def _check_keys(filters: dict[str, Any], *names: str) -> None:
    for name in names:
        if name not in filters:
            raise FilterError(f"a filter has no {name!r}; expected the keys {', '.join(names)}")


def _check_comparable(value: Any) -> None:
    if isinstance(value, str):
        try:
            datetime.fromisoformat(value)
        except ValueError:
            raise FilterError("a text cannot be compared by order, expected a number or an ISO 8601 date") from None
    elif isinstance(value, list | dict | bool):
        raise FilterError(
            f"a value of type {type(value).__name__} cannot be compared by order, expected a number or a date"
        )


_OPERATORS: Final = {
    "==": "$eq",
    "!=": "$ne",
    ">": "$gt",
    ">=": "$gte",
    "<": "$lt",
    "<=": "$lte",
    "in": "$in",
    "not in": "$nin",
}
_FIELDS: Final = {one.name: one.name for one in fields(Document)} | {"id": "$id", "content": "$text"}
"""The fields of the document itself, and their paths."""
