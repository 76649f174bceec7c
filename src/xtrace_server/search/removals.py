"""Remembers recently removed rows, so that cached rows can be updated without reading every key."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from xtrace_server.storage.knowledge_bases import KnowledgeBase
from xtrace_server.storage.vectors import Keys

MOST_KEYS: Final = 2**20
"""The maximum number of remembered keys, 8 bytes each; beyond it, the oldest removals are forgotten."""


@dataclass(frozen=True, slots=True)
class _Removal:
    before: int
    """The revision of the removal before this one, on this server or another."""
    pks: Keys


class Removals:
    """The removals by this server. Each refers to the previous one, so a missing one is noticed."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[int, int], _Removal] = OrderedDict()
        self._keys = 0

    def add(self, kb: KnowledgeBase, pks: Sequence[int]) -> None:
        """Adds a committed removal from this version of the knowledge base."""
        self._known[kb.pk, kb.revision + 1] = _Removal(kb.removal_revision, np.array(pks, dtype=np.int64))
        self._keys += len(pks)
        while self._keys > MOST_KEYS:
            self._keys -= len(self._known.popitem(last=False)[1].pks)

    def since(self, kb: KnowledgeBase, revision: int) -> Keys | None:
        """Returns the keys that were removed after the revision, up to the knowledge base's current one.

        None if not all of them are known.
        """
        found, at = [np.empty(0, dtype=np.int64)], kb.removal_revision
        while at > revision:
            removal = self._known.get((kb.pk, at))
            if removal is None:
                return None
            found.append(removal.pks)
            at = removal.before
        return np.concatenate(found)
