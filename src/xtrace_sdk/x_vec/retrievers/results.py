"""The results of a search, and how they were found."""

from typing import Literal, TypeVar

SearchMode = Literal["auto", "local", "service"]
"""Where a search may compare vectors."""

T = TypeVar("T")


class SearchResults(list[T]):
    """The results of a search, best first: a list that also tells how they were found."""

    mode: Literal["local", "service"]
    """Where vectors were compared."""
    seconds: dict[str, float]
    """The time of each stage by its name, in the order in which they began."""

    def __init__(self, found: list[T], mode: Literal["local", "service"], seconds: dict[str, float]) -> None:
        super().__init__(found)
        self.mode = mode
        self.seconds = seconds
