"""What a search is over: a knowledge base, and the chunks in it that a filter and a range of ids leave."""

from dataclasses import dataclass, field
from typing import Any

from xtrace_core import metadata_filter
from xtrace_core.metadata_filter import EVERY_CHUNK, Filter, parse_filter
from xtrace_sdk.arguments import MetaFilter
from xtrace_sdk.errors import InvalidArgument, InvalidFilter
from xtrace_sdk.x_vec.chunks.private_metadata import Hiding, hidden_filter

Range = tuple[int, int]
"""`(lowest, highest)` chunk id, both included."""


@dataclass(frozen=True, slots=True)
class SearchScope:
    """Parsed and checked once, where a search begins."""

    kb_id: str
    meta_filter: Filter
    id_range: Range | None
    _given: MetaFilter | None = field(repr=False, compare=False)
    is_hidden: bool = False
    """Whether the filter as given is the service's already."""

    @classmethod
    def of(cls, kb_id: str, id_range: Range | None, meta_filter: MetaFilter | None) -> "SearchScope":
        """The scope of a search as its caller gave it.

        Raises `InvalidArgument` without a knowledge base, and `InvalidFilter`.
        """
        if not kb_id:
            raise InvalidArgument("kb_id is missing, expected the id of a knowledge base")
        try:
            parsed = parse_filter(meta_filter)
        except metadata_filter.InvalidFilter as error:
            raise InvalidFilter(str(error)) from None
        return cls(kb_id, parsed, id_range, meta_filter)

    @classmethod
    def of_hashes(cls, kb_id: str, service_filter: dict[str, Any]) -> "SearchScope":
        """A scope whose filter has the hashes that the service has, whatever the context keeps private.

        It binds nothing that is fetched: the maker of the hashes decides what matches.
        """
        return cls(kb_id, EVERY_CHUNK, None, service_filter, is_hidden=True)

    @property
    def is_everything(self) -> bool:
        """Whether every chunk of the context in the knowledge base is a candidate."""
        return not self.is_hidden and self.id_range is None and self.meta_filter == EVERY_CHUNK

    def hidden_filter(self, context: Hiding) -> Any:
        """The filter as the service gets it: hashes in place of the values of the context's private fields."""
        return self._given if self.is_hidden else hidden_filter(context, self._given)
