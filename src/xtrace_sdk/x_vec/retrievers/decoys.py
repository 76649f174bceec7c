"""Decoys: other candidates are fetched too, so that the service cannot tell which chunks a search found.

**Groups.** A chunk belongs to one group of its knowledge base for as long as the retriever lives, whatever filter or
range a search has. Groups only grow, by merging. A chunk that was never fetched with decoys is ungrouped.

**One retrieval.** A search had the candidates C. Of these k chunks are wanted, with d decoys. Every group that is
fetched needs k + d members in C, or all of C where C is smaller:

1. *Before it looks at what is wanted*, it completes what has too few. A group with some members in C, but fewer than
   k + d, draws from all other groups that have too few and from all ungrouped candidates, each with equal probability,
   until it has enough. What is left over (nothing remains to be drawn, or fewer than k + d candidates remain ungrouped)
   joins the smallest group that has enough.
2. The wanted chunks that are still ungrouped become a new group, with d others drawn uniformly from the ungrouped
   candidates.
3. The groups that hold wanted chunks are fetched and stay merged; the other joins of step 1 are forgotten. If one of
   these groups is too large, nothing is fetched and no group changes. All this shows is that such a group was wanted.

*Whole* groups are requested, with the members that the filter excludes. The service can compute which these are and
knows that they are not wanted, so they hide nothing from it. But the request is then the same whatever the filter was:
it tells nothing about the filter, and intersecting requests yields whole groups, as they were at the first request.

**What an observer may believe**, who knows all filters, all candidates, every k and d, and even the groups: it learns
which groups hold wanted chunks, and nothing else. Step 1 does not depend on what is wanted. Step 2 depends only on how
many wanted chunks are ungrouped. So a request has the same probability for every choice of k chunks that lies in the
same groups, with the same number in a new group. By Bayes' rule, the belief in each of these choices relative to the
others stays what it was.

- If all choices of k candidates were equally likely before, all candidates in a fetched group are equally likely to be
  wanted, none with a probability above k / (k + d). For k = 1 all candidates that were fetched are equally likely. An
  observer who does not know the groups averages over them, so the bound holds there too.
- An observer who knows that two searches want the same chunk can intersect the candidates in the groups of both. Few
  may be left if the second filter excludes most of the first group. No decoys of the second search can repair this,
  because the first request did not name them.

If step 1 looked at what is wanted, this would fail. Suppose that the wanted chunk is the only candidate of its group,
and that two others are drawn for it: an ungrouped one, and one from a group that has a second candidate. Two others are
too many for a group with two candidates, so an observer would know that neither of these two is wanted.

tests/unit/xtrace_sdk/test_decoy_beliefs.py computes these beliefs exactly.
"""

import secrets
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, count
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from xtrace_sdk.errors import DecoyGroupTooLarge, InvalidArgument

ChunkIds = NDArray[np.int64]
Group = list[int]
Sample = Callable[[Sequence[int], int], list[int]]
"""Draws distinct elements of a sequence; every arrangement has the same probability."""

MAX_MEMBERS: Final = 1000
"""The maximum size of a group; a larger one is not fetched."""
MAX_REMEMBERED: Final = 1 << 25
"""The maximum bytes of remembered candidates; those of the latest searches are kept."""
_OVERHEAD: Final = 512
"""The bytes that each search counts besides the ids of its candidates."""
_NONE: Final[ChunkIds] = np.empty(0, np.int64)


class Candidates:
    """The chunks that a search could find."""

    __slots__ = ("ids", "kb_id", "number")

    def __init__(self, kb_id: str, ids: ChunkIds) -> None:
        self.kb_id = kb_id
        self.ids = ids
        """Ascending; empty once they are forgotten."""
        self.number = 0
        """Higher for later searches."""

    @property
    def size(self) -> int:
        """The bytes that remembering them takes."""
        return self.ids.nbytes + _OVERHEAD


class Grouping(Protocol):
    """The chunks of one knowledge base that are fetched together, as `Groups` has them."""

    def together_with(self, wanted: set[int], candidates: ChunkIds, decoys: int) -> list[int]:
        """See `Groups.together_with`."""


class Decoys:
    """The groups of all knowledge bases, and the candidates of the latest searches.

    A group takes about 150 bytes per member. Groups are never forgotten, because a new group would reveal what the old
    one hid.
    """

    def __init__(self, begin: Callable[[str], Grouping] | None = None) -> None:
        """`begin` returns the groups of a knowledge base, by default new ones, which last as long as this object."""
        self._begin = begin
        self._groups: dict[str, Grouping] = {}
        self._remembered: dict[tuple[str, bytes], Candidates] = {}
        self._size = 0
        self._numbers = count(1)

    def groups(self, kb_id: str) -> Grouping:
        """The groups of a knowledge base."""
        if kb_id not in self._groups:
            self._groups[kb_id] = Groups() if self._begin is None else self._begin(kb_id)
        return self._groups[kb_id]

    def remember(self, kb_id: str, ids: ChunkIds) -> Candidates:
        """Remembers the candidates of a new search; `ids` ascend. Equal candidates of two searches share one object."""
        key = kb_id, ids.tobytes()
        latest = self._remembered.pop(key, None)
        if latest is None:
            latest = Candidates(kb_id, np.frombuffer(key[1], np.int64))
            self._size += latest.size
        self._remembered[key] = latest
        latest.number = next(self._numbers)
        while self._size > MAX_REMEMBERED and len(self._remembered) > 1:
            oldest = self._remembered.pop(next(iter(self._remembered)))
            self._size -= oldest.size
            oldest.ids = _NONE
        return latest

    def together_with(self, wanted: Iterable[int], found_among: Mapping[int, Candidates], decoys: int) -> list[int]:
        """Returns the ids to fetch instead of the wanted ones, ascending: their groups, with at least this many decoys.

        `found_among` has the candidates of the search that found a chunk, for each. May run in a thread. Raises
        `InvalidArgument` if they are missing or forgotten, and `DecoyGroupTooLarge`.
        """
        by_search: dict[Candidates, set[int]] = {}
        for chunk_id in wanted:
            if chunk_id not in found_among:
                raise _unknown(chunk_id)
            by_search.setdefault(found_among[chunk_id], set()).add(chunk_id)
        asked: set[int] = set()
        # In the order of the searches, which the service knows; that of the ids tells which was nearest.
        for search in sorted(by_search, key=lambda one: one.number):
            if not len(ids := search.ids):
                raise _unknown(min(by_search[search]))
            asked.update(self.groups(search.kb_id).together_with(by_search[search], ids, decoys))
        return sorted(asked)


class Groups:
    """The chunks of one knowledge base that are fetched together."""

    def __init__(self, groups: Iterable[Iterable[int]] = (), sample: Sample | None = None) -> None:
        """`groups` are the existing groups; `sample` draws, by default from the system's generator."""
        self._sample = sample or secrets.SystemRandom().sample
        self._lock = threading.Lock()
        self._of: dict[int, Group] = {}
        for group in groups:
            self._keep(list(group))

    def __iter__(self) -> Iterator[Group]:
        return (group for member, group in self._of.items() if member == group[0])

    def together_with(self, wanted: set[int], candidates: ChunkIds, decoys: int) -> list[int]:
        """Returns the members of the wanted chunks' groups, after the module's three steps; wanted ones are candidates.

        Raises `DecoyGroupTooLarge`; the groups are then unchanged.
        """
        with self._lock:
            groups, ungrouped = self._with_enough(candidates, len(wanted) + decoys)
            fetched = [group for group in groups if not wanted.isdisjoint(group)]
            if new := sorted(wanted.difference(*fetched)):
                others = ungrouped[~np.isin(ungrouped, new)]
                fetched.append([*new, *others[self._sample(range(len(others)), decoys)].tolist()])
            if (largest := max(map(len, fetched))) > MAX_MEMBERS:
                raise DecoyGroupTooLarge(
                    f"decoys={decoys} with this filter would fetch {largest} chunks together, but the limit is "
                    f"{MAX_MEMBERS}: use fewer decoys, a filter that matches more chunks, or a new Retriever"
                )
            for group in fetched:
                self._keep(group)
        return list(chain.from_iterable(fetched))

    def _keep(self, group: Group) -> None:
        self._of |= dict.fromkeys(group, group)

    def _with_enough(self, candidates: ChunkIds, need: int) -> tuple[list[Group], ChunkIds]:
        """Step 1: groups with at least `need` candidates each, and the ungrouped candidates, at least `need` or none.

        With fewer candidates than that in all, one group has them all.
        """
        is_grouped = np.isin(candidates, np.fromiter(self._of, np.int64, len(self._of)))
        counts = Counter(self._of[chunk_id][0] for chunk_id in candidates[is_grouped].tolist())
        short = [(self._of[first], number) for first, number in counts.items() if number < need]
        joined, left_over, ungrouped = self._joined(short, candidates[~is_grouped], need)
        groups = [self._of[first] for first, number in counts.items() if number >= need] + joined
        if len(ungrouped) < need:
            left_over, ungrouped = [*left_over, *ungrouped.tolist()], _NONE
        if left_over:
            smallest = min(groups, key=len, default=[])
            groups = [*(group for group in groups if group is not smallest), [*smallest, *left_over]]
        return groups, ungrouped

    def _joined(
        self, short: Sequence[tuple[Group, int]], ungrouped: ChunkIds, need: int
    ) -> tuple[list[Group], Group, ChunkIds]:
        """Joins groups, each with its number of candidates, to one another and to ungrouped chunks.

        Returns the groups that have enough now, one for which too few chunks were left, and the ungrouped that remain.
        """
        remaining = dict(enumerate(short))
        total = len(short) + len(ungrouped)
        draws = iter(self._sample(range(total), min(total, sum(need + 1 - number for _, number in short))))
        joined, taken, number = list[Group](), list[int](), need
        while remaining:
            members, number = remaining.pop(next(iter(remaining)))
            joined.append(list(members))
            while number < need and (position := next(draws, None)) is not None:
                more, further = remaining.pop(position, ([], 0))
                if position >= len(short):
                    taken.append(position - len(short))
                    more, further = [int(ungrouped[taken[-1]])], 1
                joined[-1] += more
                number += further
        left_over = joined.pop() if number < need else []
        return joined, left_over, np.delete(ungrouped, taken)


def _unknown(chunk_id: int) -> InvalidArgument:
    return InvalidArgument(
        f"decoys for chunk {chunk_id} come from the search that found it, and this retriever does not remember that "
        "search: search first, with the same retriever"
    )
