"""Reads the secrets of a saved context."""

from collections.abc import Iterator
from contextlib import contextmanager

from xtrace_sdk.errors import InvalidArgument, InvalidContext


@contextmanager
def reading_secrets() -> Iterator[None]:
    """Turns errors of loading a key into `InvalidContext`, without its values."""
    try:
        yield
    except (KeyError, ValueError, TypeError, ZeroDivisionError, InvalidArgument):
        raise InvalidContext("the context's secret or config lacks a value, or they do not fit together") from None
