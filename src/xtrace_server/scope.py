"""Which chunks a request is about, as its sender says it."""

from dataclasses import dataclass

from xtrace_core.metadata_filter import Filter


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchScope:
    """The chunks of a knowledge base under one context that the filter matches, with ids in the range."""

    kb_id: str
    context_id: str
    filter: Filter
    id_range: tuple[int, int] | None = None
    """Both ends included; None for every id."""
