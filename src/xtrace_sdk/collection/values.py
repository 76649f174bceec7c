"""How metadata values compare: JSON types, and texts that are ISO 8601 dates and times."""

import operator
import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any, Final, Literal

import msgspec

Ordering = Literal["gt", "gte", "lt", "lte"]

_COMPARE: Final[dict[Ordering, Callable[[Any, Any], bool]]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
_ISO_8601: Final = re.compile(
    r"\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?(?:Z|[+-]\d{2}:?\d{2})?)?", re.ASCII
)


def is_number(value: Any) -> bool:
    """Whether the value is a JSON number; booleans are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def moment(value: Any) -> datetime | None:
    """Parses a time in ISO 8601 (`2026-03-01`, `2026-03-01T12:30:00.5+01:00`); None if the text is not one.

    A date means midnight, and a time without an offset is in UTC.
    """
    if not isinstance(value, str) or not _ISO_8601.fullmatch(value):
        return None
    try:
        return as_moment(datetime.fromisoformat(value))
    except ValueError:
        return None


def as_moment(value: date) -> datetime:
    """Converts a Python date or time to a time with an offset, as `moment` returns it."""
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value


def same(value: Any, operand: Any) -> bool:
    """Whether two values are equal: 1 and 1.0 are; 1, "1" and true are all different, also inside lists and objects.

    A time as operand equals every text that denotes it; a text equals only itself.
    """
    if isinstance(operand, datetime):
        return moment(value) == operand
    if isinstance(value, bool) or isinstance(operand, bool):
        return value is operand
    if isinstance(value, list) and isinstance(operand, list):
        return len(value) == len(operand) and all(map(same, value, operand))
    if isinstance(value, dict) and isinstance(operand, dict):
        return value.keys() == operand.keys() and all(same(value[key], operand[key]) for key in value)
    return bool(value == operand)


def scalar_key(value: Any) -> str | None:
    """Returns a value with its type as one text, unique among different values; None for lists and objects."""
    if value is None:
        return "0"
    if isinstance(value, bool):
        return f"b{value:d}"
    if isinstance(value, str):
        return f"s{value}"
    if isinstance(value, float):
        return f"n{int(value)}" if value.is_integer() else f"n{value!r}"
    return f"n{value:d}" if isinstance(value, int) else None


def compares(ordering: Ordering, value: Any, operand: Any) -> bool:
    """Whether the value is greater, less, … than the operand; false if they cannot be compared.

    Numbers compare with numbers, and texts with texts: as times if both are times, else by code point.
    """
    compare = _COMPARE[ordering]
    if is_number(value) and is_number(operand):
        return compare(value, operand)
    if not isinstance(value, str):
        return False
    if isinstance(operand, datetime):
        time = moment(value)
        return time is not None and compare(time, operand)
    if not isinstance(operand, str):
        return False
    times = moment(value), moment(operand)
    if times[0] is not None and times[1] is not None:
        return compare(*times)
    return compare(value, operand)


def order_key(value: Any) -> tuple[Any, ...]:
    """Returns the sort key of a value: booleans, numbers, times, other texts, lists, objects, and None last."""
    if isinstance(value, bool):
        return 0, value
    if is_number(value):
        return 1, value
    if isinstance(value, str):
        time = moment(value)
        return (3, value) if time is None else (2, time, value)
    if isinstance(value, list):
        return 4, tuple(map(order_key, value))
    if isinstance(value, dict):
        return 5, msgspec.json.encode(value, order="sorted")
    return (6,)
