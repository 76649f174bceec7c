"""What a server may do, and what comes of it: each entry is tested, and is a row of the table in docs/security.md."""

from collections.abc import Callable
from typing import Any, TypeVar

from xtrace_sdk.errors import XTraceError

Test = TypeVar("Test", bound=Callable[..., Any])

NOTICED: dict[str, set[str]] = {}
"""What a server does, and the names of the exceptions, any of which may be raised."""
UNNOTICED: set[str] = set()
"""What a server does and no client can tell."""


def noticed(does: str, *raised: type[XTraceError]) -> None:
    """Enters a deed that is noticed."""
    NOTICED.setdefault(does, set()).update(one.__name__ for one in raised)


def not_noticed(does: str) -> Callable[[Test], Test]:
    """Marks the test that shows that a deed is not noticed."""
    UNNOTICED.add(does)
    return lambda test: test
