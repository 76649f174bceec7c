"""Random sequences of what a `Memory` is told, asked and made to forget, against a plain model with a fixed clock."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from support.collecting import Model, toy_context
from support.sequences import sequences
from support.service import LiveService
from xtrace_sdk.sync import Collection, Memory, XTraceIntegration
from xtrace_sdk.x_mem import FILTERABLE, Fact
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

STEPS = 20
LATEST = 9

days = st.integers(0, LATEST)
keys = st.sampled_from([None, "home", "food"])
texts = st.sampled_from(["tea", "TEA ", "Bern", "Rome", "chess"])
users = st.sampled_from(["anna", "ben"])


def day(number: float) -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=number)


def normal(text: str) -> str:
    return text.strip().lower()


@dataclass
class Told:
    """One thing that was told; what supersedes it follows from the others."""

    id: str
    user: str
    text: str
    key: str | None
    since: int
    number: int
    """Of two since the same day the one told later is the newer."""


class Agreement(RuleBasedStateMachine):
    xtrace: ClassVar[XTraceIntegration]
    context: ClassVar[ExecutionContext]
    kb_id: ClassVar[str]
    model_of_texts: ClassVar[Any] = Model()
    number: ClassVar[int] = 0

    @initialize()
    def begin(self) -> None:
        type(self).number += 1
        self.told: list[Told] = []
        self.count = 0
        collection = Collection(
            self.xtrace,
            self.context,
            self.kb_id,
            embedding=self.model_of_texts,
            namespace=f"memory {self.number}",
            filterable=FILTERABLE,
        )
        self.memory = Memory(collection, clock=lambda: day(LATEST))

    # The model

    def versions(self, one: Told) -> list[Told]:
        """All with its key, or it alone, the oldest first."""
        if one.key is None:
            return [one]
        same = [other for other in self.told if (other.user, other.key) == (one.user, one.key)]
        return sorted(same, key=lambda other: (other.since, other.number))

    def following(self, one: Told) -> Told | None:
        versions = self.versions(one)
        at = versions.index(one) + 1
        return versions[at] if at < len(versions) else None

    def held(self, at: float, user: str | None = None) -> set[str]:
        return {
            one.id
            for one in self.told
            if user in (None, one.user)
            and one.since <= at
            and ((after := self.following(one)) is None or at < after.since)
        }

    # What is done

    @rule(user=users, text=texts, key=keys, since=days)
    def remember(self, user: str, text: str, key: str | None, since: int) -> None:
        (change,) = self.memory.scope(user=user).remember(text, key=key, at=day(since))
        known = [
            one.id
            for one in self.told
            if one.id in self.held(since, user) and normal(one.text) == normal(text) and (key is None or one.key == key)
        ]
        if known:
            assert change.op == "known"
            assert change.fact.id in known
            return
        self.count += 1
        new = Told(change.fact.id, user, text, key, since, self.count)
        self.told.append(new)
        versions = self.versions(new)
        at = versions.index(new)
        assert change.op == ("superseded" if at else "added")
        assert change.replaced == tuple(one.id for one in versions[max(at - 1, 0) : at])

    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        if not self.told:
            return
        one = data.draw(st.sampled_from(self.told))
        versions = self.versions(one)
        gone = versions[: versions.index(one) + 1]
        assert self.memory.forget(one.id) == len(gone)
        self.told = [other for other in self.told if other not in gone]

    @rule(user=users, at=days)
    def recall(self, user: str, at: int) -> None:
        found = self.memory.scope(user=user).recall("tea", 100, at=day(at), min_similarity=-1)
        assert {one.fact.id for one in found} == self.held(at, user)

    @rule(data=st.data())
    def history(self, data: st.DataObject) -> None:
        if self.told:
            one = data.draw(st.sampled_from(self.told))
            assert [fact.id for fact in self.memory.history(one.id)] == [v.id for v in reversed(self.versions(one))]

    @invariant()
    def every_fact_ends_where_the_next_begins(self) -> None:
        if not hasattr(self, "told"):
            return
        assert {fact.id for fact in self.memory.facts()} == self.held(LATEST)
        stored: dict[str, Fact] = {fact.id: fact for fact in self.memory.facts(superseded=True)}
        assert stored.keys() == {one.id for one in self.told}
        for one in self.told:
            after, fact = self.following(one), stored[one.id]
            assert (fact.text, fact.user, fact.key, fact.valid_from) == (one.text, one.user, one.key, day(one.since))
            assert fact.superseded_by == (None if after is None else after.id)
            assert fact.valid_to == (None if after is None else day(after.since))


@pytest.mark.long
def test_every_sequence_agrees_with_the_model(live_service: LiveService) -> None:
    one = live_service.new_organisation("memories")
    with XTraceIntegration(one.org_id, one.api_key, one.admin_key, one.api_url) as xtrace:
        Agreement.xtrace, Agreement.context = xtrace, toy_context()
        Agreement.kb_id = xtrace.create_kb("kb").id
        Agreement.TestCase.settings = sequences(STEPS, default=4, full=8)
        Agreement.TestCase().runTest()
