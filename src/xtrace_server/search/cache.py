"""Caches the rows of bindings in memory, within a budget.

It keeps bindings that are searched often for their size: GDSF, Greedy-Dual-Size with Frequency (Cherkasova,
HPL-98-69R1). A binding's value is its number of searches per byte plus the value of the last evicted binding, so that
old searches count less and less. Rows replace others only if they are worth more than each of them. So one large
binding does not evict many small ones that are in use, and bindings that are no longer searched make room.

Evicted rows stay in memory while searches read them, and count until these end.
"""

import asyncio
import heapq
import math
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final

from xtrace_server.metrics import Metrics
from xtrace_server.search.interface import AnySegment
from xtrace_server.search.vector_set import VectorSet

COUNTED: Final = 4096
"""The number of bindings whose searches are counted."""
MOST_SEARCHES: Final = 255
"""More searches than this do not increase a binding's value."""


class _Memory:
    """The segments that are cached or read, each counted once however often it is used."""

    def __init__(self) -> None:
        self.bytes = 0
        self._uses: dict[int, tuple[AnySegment, int]] = {}

    def use(self, segments: Iterable[AnySegment]) -> None:
        for segment in segments:
            _, uses = self._uses.get(id(segment), (segment, 0))
            self.bytes += 0 if uses else segment.nbytes
            self._uses[id(segment)] = segment, uses + 1

    def end_use(self, segments: Iterable[AnySegment]) -> None:
        for segment in segments:
            _, uses = self._uses.pop(id(segment))
            if uses > 1:
                self._uses[id(segment)] = segment, uses - 1
            else:
                self.bytes -= segment.nbytes

    def used_once(self, segments: Iterable[AnySegment]) -> int:
        """Returns the bytes that ending one use would free."""
        return sum([segment.nbytes for segment in segments if self._uses[id(segment)][1] == 1])


class VectorSetCache:
    """Rows by binding, within a budget (bytes)."""

    def __init__(self, budget: int, metrics: Metrics) -> None:
        self._budget = budget
        self._metrics = metrics
        self._kept: OrderedDict[int, VectorSet] = OrderedDict()
        """The most recently searched binding is last."""
        self._kept_bytes = 0
        self._memory = _Memory()
        self._coming: dict[int, int] = {}
        self._values: dict[int, float] = {}
        self._searches: OrderedDict[int, int] = OrderedDict()
        self._last_value = 0.0
        self._locks: dict[int, asyncio.Lock] = {}

    def __contains__(self, binding_pk: int) -> bool:
        return binding_pk in self._kept

    @property
    def kept_bytes(self) -> int:
        """The memory of the cached rows."""
        return self._kept_bytes

    @property
    def read_bytes(self) -> int:
        """The memory of evicted rows that searches still read."""
        return self._memory.bytes - self._kept_bytes

    @property
    def coming_bytes(self) -> int:
        """The memory reserved for rows that are being read."""
        return sum(self._coming.values())

    def make_room(self, binding_pk: int, nbytes: int) -> bool:
        """Counts a search of a binding that is not cached. Returns whether its rows will be: then memory is reserved.

        `arrived` must follow in any case.
        """
        searches = self._count(binding_pk)
        if nbytes > self._budget:
            return False
        value = self._value(searches, nbytes)
        missing = nbytes - (self._budget - self._memory.bytes - self.coming_bytes)
        victims, still_missing = self._victims(missing, value)
        if still_missing > 0:
            self._last_value = max(self._last_value, value)
            return False
        for victim in victims:
            self._let_go(victim)
        self._coming[binding_pk] = nbytes
        return True

    def arrived(self, binding_pk: int) -> None:
        """Reports that the rows that were being read have arrived, or will not arrive."""
        self._coming.pop(binding_pk, None)

    def get(self, binding_pk: int) -> VectorSet | None:
        """Returns the rows of a binding as last cached."""
        return self._kept.get(binding_pk)

    def lock(self, binding_pk: int) -> asyncio.Lock:
        """Returns the lock that a search holds while it loads or refreshes the rows of a binding."""
        return self._locks.setdefault(binding_pk, asyncio.Lock())

    def keep(self, binding_pk: int, current: VectorSet, *, searched: bool = True) -> None:
        """Caches the rows, and evicts the least valuable ones beyond the budget; `searched` counts a search."""
        self._memory.use(current.segments)
        self.drop(binding_pk)
        self._kept[binding_pk] = current
        self._kept_bytes += current.nbytes
        searches = self._count(binding_pk) if searched else self._searches.get(binding_pk, 1)
        self._values[binding_pk] = self._value(searches, current.nbytes)
        for victim in self._victims(self._memory.bytes + self.coming_bytes - self._budget, math.inf)[0]:
            self._let_go(victim)

    def pin(self, segments: Iterable[AnySegment]) -> Callable[[], None]:
        """Counts segments while a search reads them, cached or not; returns the call that ends this."""
        pinned = list(segments)
        self._memory.use(pinned)
        return lambda: self._memory.end_use(pinned)

    def drop(self, binding_pk: int) -> None:
        """Evicts the rows of a binding."""
        dropped = self._kept.pop(binding_pk, None)
        if dropped is not None:
            del self._values[binding_pk]
            self._kept_bytes -= dropped.nbytes
            self._memory.end_use(dropped.segments)

    def clear(self) -> None:
        for binding_pk in list(self._kept):
            self.drop(binding_pk)

    def _let_go(self, binding_pk: int) -> None:
        self._last_value = max(self._last_value, self._values[binding_pk])
        self._metrics.cache_evictions.inc()
        self.drop(binding_pk)
        if binding_pk in self._locks and not self._locks[binding_pk].locked():
            del self._locks[binding_pk]

    def _victims(self, missing: int, value: float) -> tuple[list[int], int]:
        """Returns the bindings to evict for rows of this value, and the bytes that are still missing then."""
        if missing <= 0:
            return [], 0
        found: list[int] = []
        by_value = [(self._values[binding_pk], place, binding_pk) for place, binding_pk in enumerate(self._kept)]
        heapq.heapify(by_value)
        while missing > 0 and by_value and by_value[0][0] <= value:
            binding_pk = heapq.heappop(by_value)[2]
            if freed := self._memory.used_once(self._kept[binding_pk].segments):
                found.append(binding_pk)
                missing -= freed
        return found, missing

    def _value(self, searches: int, nbytes: int) -> float:
        return self._last_value + searches / max(nbytes, 1)

    def _count(self, binding_pk: int) -> int:
        searches = self._searches[binding_pk] = min(self._searches.pop(binding_pk, 0) + 1, MOST_SEARCHES)
        if len(self._searches) > COUNTED:
            self._searches.popitem(last=False)
        return searches
