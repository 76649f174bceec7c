"""The chunks that a search, or an act by metadata, is about."""

from dataclasses import dataclass

from xtrace_server.scope import SearchScope
from xtrace_server.storage.contexts import Binding
from xtrace_server.storage.knowledge_bases import KnowledgeBase
from xtrace_server.storage.schema import MAX_CHUNK_ID, chunk_pk


@dataclass(frozen=True, slots=True)
class Candidates:
    """The chunks in a scope, whose knowledge base and binding were found."""

    kb: KnowledgeBase
    binding: Binding
    scope: SearchScope

    @property
    def pk_range(self) -> tuple[int, int]:
        """The keys of the ids in the range, both ends included; the second is the smaller one if there are none."""
        if self.scope.id_range is None:
            return self.kb.first_pk, self.kb.last_pk
        first, last = self.scope.id_range
        if last < 0 or first > MAX_CHUNK_ID:
            return chunk_pk(self.kb.pk, 1), chunk_pk(self.kb.pk, 0)
        return chunk_pk(self.kb.pk, max(first, 0)), chunk_pk(self.kb.pk, min(last, MAX_CHUNK_ID))

    @property
    def bounded(self) -> bool:
        """Whether the range leaves out ids that a chunk can have."""
        first, last = self.pk_range
        return first > self.kb.first_pk or last < self.kb.last_pk
