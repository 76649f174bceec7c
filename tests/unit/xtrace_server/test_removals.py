"""Removals that are remembered: all between two revisions are known, or the caller is told that they are not."""

from dataclasses import replace

import pytest

from xtrace_server.search import removals
from xtrace_server.search.removals import Removals
from xtrace_server.storage.knowledge_bases import KnowledgeBase

NEW = KnowledgeBase(1, "kb", "", "", 9, 10, revision=5, removal_revision=0, created_at="", updated_at="")


def removed(known: Removals | None, kb: KnowledgeBase, *pks: int) -> KnowledgeBase:
    """The knowledge base after a removal, which this server made if `known` is given."""
    if known is not None:
        known.add(kb, pks)
    return replace(kb, revision=kb.revision + 1, removal_revision=kb.revision + 1)


def since(known: Removals, kb: KnowledgeBase, revision: int) -> list[int] | None:
    found = known.since(kb, revision)
    return None if found is None else sorted(found.tolist())


def test_the_removals_after_a_revision_are_known() -> None:
    known = Removals()
    first = removed(known, NEW, 1, 2)
    inserted = replace(first, revision=first.revision + 1)
    second = removed(known, inserted, 3)
    assert since(known, NEW, NEW.revision) == []
    assert since(known, second, 5) == [1, 2, 3]
    assert since(known, second, first.revision) == [3]
    assert since(known, second, second.revision) == []
    assert since(known, replace(second, pk=2), 5) is None


def test_a_removal_by_another_server_is_noticed() -> None:
    known = Removals()
    first = removed(known, NEW, 1)
    foreign = removed(None, first)
    third = removed(known, foreign, 3)
    assert since(known, foreign, 5) is None
    assert since(known, third, 5) is None
    assert since(known, third, foreign.revision) == [3]


def test_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removals, "MOST_KEYS", 3)
    known = Removals()
    first = removed(known, NEW, 1, 2)
    second = removed(known, first, 3, 4)
    assert since(known, second, 5) is None
    assert since(known, second, first.revision) == [3, 4]
