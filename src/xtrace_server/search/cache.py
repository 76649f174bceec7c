"""The rows of the bindings last searched, in memory, within a budget."""

import asyncio
from collections import OrderedDict

from xtrace_server.metrics import Metrics
from xtrace_server.search.vector_set import VectorSet


class VectorSetCache:
    """Rows by binding. When the budget (bytes) is used up, the bindings go that were not searched for longest."""

    def __init__(self, budget: int, metrics: Metrics) -> None:
        self._budget = budget
        self._metrics = metrics
        self._kept: OrderedDict[int, VectorSet] = OrderedDict()
        self._locks: dict[int, asyncio.Lock] = {}

    def __contains__(self, binding_pk: int) -> bool:
        return binding_pk in self._kept

    @property
    def held_bytes(self) -> int:
        """How much memory the rows take."""
        return sum([kept.nbytes for kept in self._kept.values()])

    def fits(self, nbytes: int) -> bool:
        """Returns whether rows of this size could be kept at all."""
        return nbytes <= self._budget

    def get(self, binding_pk: int) -> VectorSet | None:
        """Returns the rows of a binding as they were kept last."""
        return self._kept.get(binding_pk)

    def lock(self, binding_pk: int) -> asyncio.Lock:
        """Returns what a search holds while it loads or refreshes the rows of a binding."""
        return self._locks.setdefault(binding_pk, asyncio.Lock())

    def keep(self, binding_pk: int, current: VectorSet) -> None:
        """Keeps the rows as those last searched, and lets go of others beyond the budget."""
        self._kept[binding_pk] = current
        self._kept.move_to_end(binding_pk)
        while self._kept and self.held_bytes > self._budget:
            evicted, _ = self._kept.popitem(last=False)
            self._metrics.cache_evictions.inc()
            if evicted in self._locks and not self._locks[evicted].locked():
                del self._locks[evicted]

    def drop(self, binding_pk: int) -> None:
        """Lets go of the rows of a binding."""
        self._kept.pop(binding_pk, None)

    def clear(self) -> None:
        self._kept.clear()
