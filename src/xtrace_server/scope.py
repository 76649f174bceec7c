"""The scope of a request: the chunks that it concerns."""

from dataclasses import dataclass

from xtrace_core.metadata_filter import EVERY_CHUNK, Filter


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchScope:
    """The chunks of a knowledge base under one context that the filter matches, with ids in the range."""

    kb_id: str
    context_id: str
    filter: Filter
    id_range: tuple[int, int] | None = None
    """Inclusive; None for every id."""
    unsealed: bool = False
    """Only chunks in no block."""
    few: bool = False
    """With `unsealed`: these are so few that reading each of them takes less than finding the filter's matches."""

    @property
    def selects(self) -> bool:
        """Whether it excludes chunks by more than their ids."""
        return self.unsealed or self.filter != EVERY_CHUNK
