"""Random sequences of calls of a `Collection` against the real server and a dictionary: they always agree."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from support.collecting import DIM, Model, toy_context, vector_of
from support.sequences import sequences
from support.service import LiveService
from support.where_strategies import filterable, metadata, wheres
from xtrace_sdk import Record
from xtrace_sdk.collection.matching import matches
from xtrace_sdk.collection.values import same
from xtrace_sdk.collection.where import parse_where
from xtrace_sdk.errors import RecordNotFound, RecordsExist
from xtrace_sdk.sync import Collection, XTraceIntegration
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

STEPS = 25

ids = st.sampled_from(["a", "b", "c", "d", "é", "a.b"])
texts = st.none() | st.sampled_from(["one", "two", "three", " "])
vectors = st.sampled_from([None, [], vector_of("own"), vector_of("other").tolist()])
records = st.builds(Record, ids, texts, metadata, vectors)


@dataclass(frozen=True)
class Held:
    """A record as the model has it."""

    text: str | None
    metadata: dict[str, Any]
    vector: Any


def held(record: Record) -> Held:
    vector = record.vector
    if vector is None and record.text is not None and record.text.strip():
        vector = vector_of(record.text)
    return Held(record.text, record.metadata, None if vector is None or not len(vector) else np.asarray(vector))


class Agreement(RuleBasedStateMachine):
    xtrace: ClassVar[XTraceIntegration]
    context: ClassVar[ExecutionContext]
    kb_id: ClassVar[str]
    model_of_texts: ClassVar[Any] = Model()
    """Asynchronous, as `Embedding` is behind its twin."""
    number: ClassVar[int] = 0

    @initialize(chosen=filterable, private=st.booleans())
    def begin(self, chosen: Any, private: bool) -> None:
        type(self).number += 1
        self.model: dict[str, Held] = {}
        """In the order in which records were first stored."""
        self.collection = Collection(
            self.xtrace,
            self.context,
            self.kb_id,
            embedding=self.model_of_texts,
            namespace=f"{self.number}",
            filterable=chosen,
            vector_copy="float32",
        )

    @rule(given=st.lists(records, max_size=4), on_conflict=st.sampled_from(["replace", "skip"]))
    def upsert(self, given: list[Record], on_conflict: Any) -> None:
        last = {one.id: one for one in (given if on_conflict == "replace" else given[::-1])}
        written = self.collection.upsert(given, on_conflict=on_conflict)
        there = {one for one in last if one in self.model}
        assert set(written.inserted) == last.keys() - there
        assert set(written.replaced if on_conflict == "replace" else written.skipped) == there
        for one in dict.fromkeys(record.id for record in given):
            if on_conflict == "replace" or one not in self.model:
                self.model[one] = held(last[one])

    @rule(given=st.lists(records, min_size=1, max_size=3))
    def insert(self, given: list[Record]) -> None:
        new = [one.id for one in given]
        if len(set(new)) == len(new) and not self.model.keys() & set(new):
            assert self.collection.upsert(given, on_conflict="fail").inserted == tuple(new)
            self.model |= {one.id: held(one) for one in given}
        else:
            with pytest.raises(RecordsExist):
                self.collection.upsert(given, on_conflict="fail")

    @rule(one=ids, change=st.fixed_dictionaries({}, optional={"text": texts, "metadata": metadata, "vector": vectors}))
    def update(self, one: str, change: dict[str, Any]) -> None:
        if one not in self.model:
            with pytest.raises(RecordNotFound):
                self.collection.update(one, **change)
            return
        before = self.model[one]
        now = held(Record(one, change.get("text", before.text), change.get("metadata", before.metadata)))
        if "vector" in change:
            now = replace(now, vector=held(Record(one, now.text, vector=change["vector"])).vector)
        elif now.text == before.text:
            now = replace(now, vector=before.vector)
        self.collection.update(one, **change)
        self.model[one] = now

    @rule(chosen=st.lists(ids, max_size=3))
    def delete(self, chosen: list[str]) -> None:
        assert self.collection.delete(chosen) == len(self.model.keys() & set(chosen))
        for one in chosen:
            self.model.pop(one, None)

    @rule(where=wheres)
    def delete_matching(self, where: Any) -> None:
        chosen = self.matching(where)
        assert self.collection.delete(where=where) == len(chosen)
        for one in chosen:
            del self.model[one]

    @rule(where=wheres)
    def select(self, where: Any) -> None:
        chosen = self.matching(where)
        assert sorted(one.id for one in self.collection.iter(where)) == sorted(chosen)
        assert self.collection.count(where) == len(chosen)

    @rule(where=st.none() | wheres, k=st.integers(1, 4), query=st.sampled_from(["one", "own", "query"]))
    def search(self, where: Any, k: int, query: str) -> None:
        wanted = vector_of(query)
        distances = {
            one: int(((wanted > 0) != (self.model[one].vector > 0)).sum())
            for one in self.matching(where)
            if self.model[one].vector is not None
        }
        hits = self.collection.search(query, k, where=where, rescore=1, include_vectors=True)
        assert [hit.distance for hit in sorted(hits, key=lambda hit: hit.distance)] == sorted(distances.values())[:k]
        for hit in hits:
            assert distances[hit.record.id] == hit.distance
            vector = self.model[hit.record.id].vector.astype(np.float32)
            assert np.array_equal(hit.record.vector, vector)
            exact = float(wanted @ vector / (np.linalg.norm(wanted) * np.linalg.norm(vector)))
            assert hit.similarity == pytest.approx(exact, abs=1e-5)
        assert [hit.similarity for hit in hits] == sorted((hit.similarity for hit in hits), reverse=True)

    @rule()
    def clear(self) -> None:
        assert self.collection.clear() == len(self.model)
        self.model.clear()

    @invariant()
    def the_same_is_stored(self) -> None:
        if not hasattr(self, "model"):
            return
        found = self.collection.get(list(self.model), include_vectors=True)
        assert [one.id for one in found] == list(self.model)
        for one in found:
            expected = self.model[one.id]
            assert one.text == expected.text
            assert same(one.metadata, expected.metadata)
            assert (one.vector is None) == (expected.vector is None)

    def matching(self, where: Any) -> list[str]:
        tree = parse_where(where)
        return [one for one, kept in self.model.items() if matches(tree, kept.metadata, one, kept.text)]


@pytest.mark.long
def test_every_sequence_of_calls_agrees_with_the_model(live_service: LiveService) -> None:
    assert len(vector_of("x")) == DIM
    one = live_service.new_organisation("sequences")
    with XTraceIntegration(one.org_id, one.api_key, one.admin_key, one.api_url) as xtrace:
        Agreement.xtrace, Agreement.context = xtrace, toy_context()
        Agreement.kb_id = xtrace.create_kb("kb").id
        Agreement.TestCase.settings = sequences(STEPS, default=5, full=20)
        Agreement.TestCase().runTest()
