"""Which rows of a local index a retriever's search may find, and how they are read."""

from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import numpy as np

from xtrace_core.filter_matching import matches
from xtrace_core.metadata_filter import EVERY_CHUNK
from xtrace_core.secrecy import Secretive
from xtrace_sdk.x_vec.chunks.envelope import Content
from xtrace_sdk.x_vec.local.loaded import Loaded, Mask
from xtrace_sdk.x_vec.local.segment import Segment
from xtrace_sdk.x_vec.retrievers.scope import SearchScope


@dataclass(frozen=True, slots=True, repr=False)
class LocalChunk:
    """A chunk that a search read."""

    id: int
    text: str
    content: Content
    meta_data: dict[str, Any] = field(default_factory=dict)


class LocalChunks(Secretive):
    """The chunks in the scope of a search. Records of a collection are not among them: their filters are others."""

    __slots__ = ("_scope", "key")

    is_decided: Final = True

    def __init__(self, scope: SearchScope) -> None:
        self._scope = scope
        self.key = f"{scope.id_range} {scope.meta_filter!r}"

    def suits(self, loaded: Loaded) -> bool:
        """Whether no chunk is a record of a collection."""
        return not any((alive & (segment.owners >= 0)).any() for segment, alive in loaded.parts)

    def rows(self, segment: Segment) -> Mask:
        """Which rows have a vector, and match the range and the filter."""
        inside = segment.has_vector
        if self._scope.id_range is not None:
            first, last = self._scope.id_range
            inside &= (segment.chunk_ids >= first) & (segment.chunk_ids <= last)
        if self._scope.meta_filter != EVERY_CHUNK:
            inside &= self._matching(segment)
        return inside

    def read(self, chunk: dict[str, Any], content: Content) -> LocalChunk | None:
        """Reads a chunk; None if it does not match the filter any longer."""
        found = LocalChunk(chunk["chunk_id"], content.text, content, chunk.get("meta_data") or {})
        return found if matches(self._scope.meta_filter, found.meta_data) else None

    def _matching(self, segment: Segment) -> Mask:
        """Decides the filter once for all rows with equal metadata."""
        texts = [text for _, text in segment.records]
        decided = {
            text: matches(self._scope.meta_filter, msgspec.json.decode(text) if text else {}) for text in set(texts)
        }
        return np.array([decided[text] for text in texts], np.bool_)
