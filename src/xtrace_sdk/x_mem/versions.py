"""The order of facts in one thread: each holds until the next one begins."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Final

from xtrace_sdk.x_mem.facts import Fact

_TICK: Final = timedelta(microseconds=1)


def in_order(facts: Iterable[Fact]) -> list[Fact]:
    """Sorts facts by when they begin to hold; of two with the same time, the one learned later is newer."""
    return sorted(facts, key=lambda fact: (fact.valid_from, fact.learned_at, fact.id))


def learned_last(new: Fact, facts: Iterable[Fact]) -> Fact:
    """Returns the new fact, marked as learned after all others with the same start, however coarse the clock is."""
    before = [fact.learned_at for fact in facts if fact.valid_from == new.valid_from]
    return replace(new, learned_at=max([new.learned_at, *(one + _TICK for one in before)]))


def chained(facts: Iterable[Fact]) -> list[Fact]:
    """Returns the facts of one thread in order, each ended by the next one.

    The result depends only on the facts, so that two clients with the same facts agree. A fact that was ended by one of
    another thread keeps its end.
    """
    ordered = in_order(facts)
    ids = {fact.id for fact in ordered}
    done = []
    for i, fact in enumerate(ordered):
        if fact.superseded_by is not None and fact.superseded_by not in ids:
            done.append(fact)
        elif i + 1 < len(ordered):
            following = ordered[i + 1]
            done.append(replace(fact, valid_to=following.valid_from, superseded_by=following.id))
        else:
            done.append(replace(fact, valid_to=None, superseded_by=None))
    return done


def changed(before: Iterable[Fact], after: Iterable[Fact]) -> list[Fact]:
    """Returns the facts in `after` that differ from those in `before`."""
    stored = {fact.id: fact for fact in before}
    return [fact for fact in after if stored.get(fact.id) != fact]


def older(fact: Fact, thread: Iterable[Fact]) -> list[Fact]:
    """Returns the fact and the earlier ones of its thread."""
    ordered = in_order({one.id: one for one in (*thread, fact)}.values())
    return ordered[: next(i for i, one in enumerate(ordered) if one.id == fact.id) + 1]
