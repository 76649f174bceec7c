"""The chunks that a search, or an operation by metadata, concerns."""

from dataclasses import dataclass

from xtrace_server.scope import SearchScope
from xtrace_server.storage.contexts import Binding
from xtrace_server.storage.knowledge_bases import KnowledgeBase
from xtrace_server.storage.schema import MAX_CHUNK_ID, chunk_pk


@dataclass(frozen=True, slots=True)
class Candidates:
    """The chunks in a scope, with its knowledge base and binding."""

    kb: KnowledgeBase
    binding: Binding
    scope: SearchScope

    @property
    def pk_range(self) -> tuple[int, int]:
        """The first and last key in the range, inclusive; the second is smaller if the range is empty."""
        if self.scope.id_range is None:
            return self.kb.first_pk, self.kb.last_pk
        first, last = self.scope.id_range
        if last < 0 or first > MAX_CHUNK_ID:
            return chunk_pk(self.kb.pk, 1), chunk_pk(self.kb.pk, 0)
        return chunk_pk(self.kb.pk, max(first, 0)), chunk_pk(self.kb.pk, min(last, MAX_CHUNK_ID))

    @property
    def bounded(self) -> bool:
        """Whether the range excludes possible chunk ids."""
        first, last = self.pk_range
        return first > self.kb.first_pk or last < self.kb.last_pk
