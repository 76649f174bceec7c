"""Decoys: other candidates that are fetched along, so that the service cannot tell which chunks a search found.

What was fetched together is fetched together ever after, whatever of it is wanted. So asking again, for all or some of
it, after the same search or another one, never gives the service two requests to intersect. A group is drawn from
candidates that were in no group before, so nothing of the past tells those wanted from the others.

Groups belong to a scope (knowledge base, filters), because the service knows which chunks a search could find at all.
They live as long as the retriever.
"""

import secrets
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xtrace_core.metadata_filter import parse_filter
from xtrace_sdk.errors import InvalidArgument

ChunkIds = NDArray[np.int64]

MAX_REMEMBERED: Final = 1 << 22
"""Candidates that are remembered over all scopes, 8 bytes each; the scopes searched last are kept."""


class Decoys:
    """Remembers the candidates of each scope's latest search, and what was fetched together."""

    def __init__(self) -> None:
        self._scopes: dict[Any, _Scope] = {}
        self._scope_of: dict[tuple[str, int], _Scope] = {}

    def remember(
        self,
        kb_id: str,
        range_filter: tuple[int, int] | None,
        meta_filter: Mapping[str, Any] | str | None,
        candidates: ChunkIds,
        found: Iterable[int],
    ) -> None:
        """A search with these filters had these candidates, ascending, and found some of them."""
        key = kb_id, None if range_filter is None else tuple(range_filter), parse_filter(meta_filter)
        scope = self._scopes.pop(key, None) or _Scope()
        self._scopes[key] = scope  # the last one now
        scope.candidates = candidates
        for chunk_id in found:
            self._scope_of[kb_id, chunk_id] = scope
        remembered = sum(len(one.candidates) for one in self._scopes.values())
        for one in list(self._scopes.values())[:-1]:
            if remembered > MAX_REMEMBERED:
                remembered -= len(one.candidates)
                one.candidates = _NONE

    def together_with(self, wanted: Collection[int], kb_id: str, count: int) -> list[int]:
        """The ids to ask for instead of those wanted, ascending: these and `count` others, or all that there are.

        Raises `InvalidArgument` for ids that no search found whose candidates are still remembered.
        """
        by_scope: dict[_Scope, list[int]] = {}
        for chunk_id in wanted:
            scope = self._scope_of.get((kb_id, chunk_id))
            if scope is None or not scope.knows(chunk_id):
                raise InvalidArgument(
                    f"decoys for chunk {chunk_id} are drawn from the candidates of the search that found it, "
                    "and this retriever knows of none: search first, with the same retriever"
                )
            by_scope.setdefault(scope, []).append(chunk_id)
        return sorted({one for scope, ids in by_scope.items() for one in scope.together_with(ids, count)})


class _Scope:
    """The candidates of one kind of search, and the groups in which they are fetched."""

    def __init__(self) -> None:
        self.candidates: ChunkIds = _NONE
        self._groups: dict[int, list[int]] = {}

    def knows(self, chunk_id: int) -> bool:
        return chunk_id in self._groups or bool(len(self.candidates))

    def together_with(self, wanted: list[int], count: int) -> set[int]:
        asked = {one for chunk_id in wanted for one in self._groups.get(chunk_id, [chunk_id])}
        new = [chunk_id for chunk_id in wanted if chunk_id not in self._groups]
        free = self.candidates[~np.isin(self.candidates, [*self._groups, *new])]
        missing = count if new else max(0, count - (len(asked) - len(wanted)))
        # Candidates too few to hide one of them later come along now, when that means nothing.
        drawn = len(free) if len(free) <= missing + count else missing
        chosen = secrets.SystemRandom().sample(range(len(free)), drawn)
        group = [] if new else self._groups[wanted[0]]
        group += [*new, *free[chosen].tolist()]
        self._groups |= dict.fromkeys(group, group)
        return asked.union(group)


_NONE: Final[ChunkIds] = np.empty(0, np.int64)
