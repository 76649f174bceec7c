"""How facts of one thread follow each other: each holds until the next begins."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Final

from xtrace_sdk.x_mem.facts import Fact

_TICK: Final = timedelta(microseconds=1)


def in_order(facts: Iterable[Fact]) -> list[Fact]:
    """The facts by the time since when they hold; of two that begin together the one learned later is the newer."""
    return sorted(facts, key=lambda fact: (fact.valid_from, fact.learned_at, fact.id))


def learned_last(new: Fact, facts: Iterable[Fact]) -> Fact:
    """The new fact, learned after all others that hold since the same time, however coarse the clock is."""
    before = [fact.learned_at for fact in facts if fact.valid_from == new.valid_from]
    return replace(new, learned_at=max([new.learned_at, *(one + _TICK for one in before)]))


def chained(facts: Iterable[Fact]) -> list[Fact]:
    """The facts of one thread in order, each ended by the one that follows.

    The result depends on nothing but the facts, so that two clients that see the same come to the same. A fact that
    one of another thread ended keeps its end.
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
    """Those of `after` that are not the same in `before`."""
    stored = {fact.id: fact for fact in before}
    return [fact for fact in after if stored.get(fact.id) != fact]


def older(fact: Fact, thread: Iterable[Fact]) -> list[Fact]:
    """The facts of its thread that came before it, and itself."""
    ordered = in_order({one.id: one for one in (*thread, fact)}.values())
    return ordered[: next(i for i, one in enumerate(ordered) if one.id == fact.id) + 1]
