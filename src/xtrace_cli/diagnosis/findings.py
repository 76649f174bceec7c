"""A finding: what was checked, the result, and what to do about it."""

from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import msgspec

from xtrace_sdk.errors import XTraceError

Status = Literal["ok", "warning", "error"]


class Finding(msgspec.Struct, frozen=True):
    """The result of one check; `advice` is empty if there is nothing to do."""

    check: str
    status: Status
    found: str
    advice: str = ""


def guarded(check: str, look: Callable[[], Iterable[Finding]], advice: str) -> Iterator[Finding]:
    """Yields the findings of a check; if the check fails, an error with the advice."""
    try:
        yield from look()
    except XTraceError as error:
        yield Finding(check, "error", str(error), advice)
    except OSError as error:
        yield Finding(check, "error", f"{error.filename}: {error.strerror}", advice)
