"""The results of a search, and how they were found."""

from typing import Literal, TypeVar

from xtrace_sdk.x_vec.retrievers.planning import SearchPlan

SearchMode = Literal["auto", "local", "service"]
"""Where a search may compare vectors."""

T = TypeVar("T")


class SearchResults(list[T]):
    """The results of a search, best first: a list that also tells how they were found."""

    mode: Literal["local", "service"]
    """Where vectors were compared."""
    seconds: dict[str, float]
    """The time of each stage by its name, in the order in which they began."""
    plan: SearchPlan | None
    """How a search on the service compared the vectors, and why; None for schemes with only one way."""

    def __init__(
        self,
        found: list[T],
        mode: Literal["local", "service"],
        seconds: dict[str, float],
        plan: SearchPlan | None = None,
    ) -> None:
        super().__init__(found)
        self.mode = mode
        self.seconds = seconds
        self.plan = plan
