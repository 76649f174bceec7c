"""How much one statement works on."""

from collections.abc import Iterable
from typing import Final, TypeVar

T = TypeVar("T")

PARAMETERS: Final = 1000
"""How many values one statement binds, and how many rows it returns: a few milliseconds' work."""


def steps(values: Iterable[T]) -> Iterable[list[T]]:
    """Yields the values in batches of what one statement binds."""
    listed = list(values)
    for i in range(0, len(listed), PARAMETERS):
        yield listed[i : i + PARAMETERS]
