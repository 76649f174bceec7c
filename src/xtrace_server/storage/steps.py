"""The sizes of statements."""

from collections.abc import Iterable
from typing import Final, TypeVar

T = TypeVar("T")

PARAMETERS: Final = 1000
"""The number of values that one statement binds, and of rows that it returns: a few milliseconds of work."""


def steps(values: Iterable[T]) -> Iterable[list[T]]:
    """Yields the values in batches for one statement each."""
    listed = list(values)
    for i in range(0, len(listed), PARAMETERS):
        yield listed[i : i + PARAMETERS]
