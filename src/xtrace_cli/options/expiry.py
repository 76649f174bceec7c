"""Parses when something expires, as people write it: a time, or a duration from now."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import typer

from xtrace_cli.errors import WrongUse

Expires = Annotated[
    str | None,
    typer.Option(
        "--expires",
        metavar="WHEN",
        help="When the key expires: a duration such as 90d or 12h, or a time such as 2030-01-31 or "
        "2030-01-31T12:00+02:00, in UTC unless it has an offset; by default never.",
    ),
]
_SPAN: Final = re.compile(r"([0-9]{1,6})([mhdw])")
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def moment_of(text: str) -> datetime:
    """Returns the time that the text describes. Raises `WrongUse`."""
    try:
        if match := _SPAN.fullmatch(text):
            return datetime.now(UTC) + timedelta(**{_UNITS[match[2]]: int(match[1])})
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise WrongUse(
            "--expires is not valid, expected a duration such as 90d, 12h or 30m, or a time such as 2030-01-31T12:00Z"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
