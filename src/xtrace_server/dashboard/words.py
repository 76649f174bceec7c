"""Formats numbers, sizes and times for pages."""

from datetime import UTC, datetime
from typing import Final

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_SHORT: Final = 80
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86_400


def number(value: int) -> str:
    """Returns a whole number with separators: `1,204`."""
    return f"{value:,}"


def counted(value: int, one: str, many: str = "") -> str:
    """Returns a number with what it counts: `1 chunk`, `2 chunks`; `many` is for irregular words."""
    return f"{value:,} {one if value == 1 else many or one + 's'}"


def size(value: float) -> str:
    """Returns a number of bytes in a readable unit: `96.1 MiB`."""
    for unit in _UNITS:
        if value < 1024 or unit == _UNITS[-1]:
            return (
                f"{value:,.0f} {unit}" if unit == "B" or value >= 1000 else f"{value:,.1f} {unit}".replace(".0 ", " ")
            )
        value /= 1024
    raise AssertionError("unreachable")


def share(part: float, whole: float) -> str:
    """Returns a share in percent: `17.9 %`; `0 %` of nothing."""
    return "0 %" if not part or not whole else f"{100 * part / whole:.1f} %".replace(".0 ", " ")


def seconds(value: float) -> str:
    """Returns a time span: `2.1 ms`, `1.4 s`."""
    return f"{value * 1000:.1f} ms" if value < 1 else f"{value:.1f} s"


def parse_time(text: str) -> datetime:
    """Returns a stored time as a `datetime`."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC)


def exact(text: str) -> str:
    """Returns a stored time in UTC: `2026-11-26 09:41:00 UTC`."""
    return parse_time(text).strftime("%Y-%m-%d %H:%M:%S UTC")


def machine(text: str) -> str:
    """Returns a stored time for a `datetime` attribute: `2026-11-26T09:41:00Z`."""
    return parse_time(text).strftime("%Y-%m-%dT%H:%M:%SZ")


def age(text: str, moment: datetime | None = None) -> str:
    """Returns how long ago a stored time was, or how far ahead it is: `2 min ago`, `in 5 days`."""
    passed = ((moment or datetime.now(UTC)) - parse_time(text)).total_seconds()
    span = abs(passed)
    if span < _MINUTE_S:
        return "now" if passed >= 0 else "in less than a minute"
    if span < _HOUR_S:
        words = f"{span // _MINUTE_S:.0f} min"
    elif span < 2 * _DAY_S:
        words = counted(int(span // _HOUR_S), "hour")
    elif span < 60 * _DAY_S:
        words = counted(int(span // _DAY_S), "day")
    elif span < 730 * _DAY_S:
        words = counted(int(span // (30.44 * _DAY_S)), "month")
    else:
        words = counted(int(span // (365.25 * _DAY_S)), "year")
    return f"{words} ago" if passed >= 0 else f"in {words}"


def sentence(text: str) -> str:
    """Returns an error message as a sentence; if it begins with an identifier, that is not capitalized."""
    if text.partition(" ")[0].isalpha():
        text = f"{text[0].upper()}{text[1:]}"
    return text + ("" if text.endswith((".", "!", "?")) else ".")


def short(text: str, most: int = _SHORT) -> str:
    """Returns a name that fits on a line: the middle of a long one is left out, an empty one becomes `(no name)`."""
    if not text.strip():
        return "(no name)"
    if len(text) <= most:
        return text
    kept = most // 2
    return f"{text[:kept]}…{text[-kept:]}"


def short_id(text: str) -> str:
    """Returns the beginning of a long id; show the whole id next to it."""
    return text if len(text) <= 12 else text[:8]


def hexadecimal(data: bytes, most: int = 2048) -> str:
    """Returns bytes in hexadecimal, in groups of four; a long text ends with an ellipsis."""
    shown = data[:most].hex()
    groups = " ".join(shown[start : start + 8] for start in range(0, len(shown), 8))
    return groups + (" …" if len(data) > most else "")
