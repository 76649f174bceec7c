"""The scope of a search: a knowledge base, and a filter and a range of ids that restrict its chunks."""

from dataclasses import dataclass, field
from typing import Any

from xtrace_core import metadata_filter
from xtrace_core.metadata_filter import EVERY_CHUNK, Filter, parse_filter
from xtrace_sdk.arguments import MetaFilter
from xtrace_sdk.errors import InvalidArgument, InvalidFilter
from xtrace_sdk.x_vec.chunks.private_metadata import Hiding, hidden_filter

Range = tuple[int, int]
"""`(lowest, highest)` chunk id, inclusive."""


@dataclass(frozen=True, slots=True)
class SearchScope:
    """The scope, parsed and checked once at the start of a search."""

    kb_id: str
    meta_filter: Filter
    id_range: Range | None
    _given: MetaFilter | None = field(repr=False, compare=False)
    is_hidden: bool = False
    """Whether the filter already contains the service's hashes."""

    @classmethod
    def of(cls, kb_id: str, id_range: Range | None, meta_filter: MetaFilter | None) -> "SearchScope":
        """Parses the scope of a search from the caller's arguments.

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
        """Creates a scope whose filter already contains the service's hashes, regardless of private fields.

        Fetched chunks are not checked against it, because the creator of the hashes decides what matches.
        """
        return cls(kb_id, EVERY_CHUNK, None, service_filter, is_hidden=True)

    @property
    def is_everything(self) -> bool:
        """Whether every chunk of the context in the knowledge base is a candidate."""
        return not self.is_hidden and self.id_range is None and self.meta_filter == EVERY_CHUNK

    def hidden_filter(self, context: Hiding) -> Any:
        """Returns the filter for the service, with hashes instead of the values of private fields."""
        return self._given if self.is_hidden else hidden_filter(context, self._given)
