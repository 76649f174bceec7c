"""`Memory` against the real server: facts with scopes, times and successors."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from support.collecting import Model, toy_context, vector_of
from support.language_model import LanguageModel, Plan, completion, language_model
from xtrace_sdk import Collection, ExecutionContext, InferenceClient, Record, sync
from xtrace_sdk.errors import InferenceError, InvalidArgument, UnknownContent
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_mem import FILTERABLE, Fact, Memory
from xtrace_sdk.x_vec.chunks.vectors import float_to_bits
from xtrace_server.credentials import Credentials

TODAY = 100


def day(number: float) -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=number)


class Clock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.day: float = TODAY

    def __call__(self) -> datetime:
        return day(self.day)


@pytest.fixture(scope="module")
def context() -> ExecutionContext:
    return toy_context()


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Counting(Collection):
    """Counts what it writes."""

    writes = 0

    async def upsert(self, records: Any, **options: Any) -> Any:
        self.writes += 1
        return await super().upsert(records, **options)


@pytest.fixture
async def collection(context: ExecutionContext, xtrace: XTraceIntegration) -> Counting:
    return await Counting.open(xtrace, context, "memory", embedding=Model(), filterable=FILTERABLE)


@pytest.fixture
def memory(collection: Counting, clock: Clock) -> Memory:
    return Memory(collection, clock=clock)


def texts(facts: list[Fact]) -> list[str]:
    return [fact.text for fact in facts]


async def recalled(memory: Memory, query: str = "anything", **options: Any) -> list[str]:
    return sorted(one.fact.text for one in await memory.recall(query, 50, min_similarity=-1, **options))


async def test_a_fact_takes_the_place_of_the_one_with_its_key(memory: Memory) -> None:
    anna = memory.scope(user="anna")
    (first,) = await anna.remember("Anna lives in Bern.", key="home", at=day(0))
    (same,) = await anna.remember("  anna LIVES in Bern. ", key="home")
    (second,) = await anna.remember("Anna moved to Zurich.", key="home", at=day(50), tags=["place"], metadata={"m": 1})
    assert (first.op, same.op, second.op) == ("added", "known", "superseded")
    assert (same.fact.id, second.replaced) == (first.fact.id, (first.fact.id,))
    assert texts(await anna.facts()) == ["Anna moved to Zurich."]
    assert texts(await anna.history("home")) == ["Anna moved to Zurich.", "Anna lives in Bern."]
    assert await anna.history(first.fact.id) == await anna.history("home")
    assert await recalled(anna) == ["Anna moved to Zurich."]
    assert await recalled(anna, at=day(20)) == ["Anna lives in Bern."]
    assert await recalled(anna, superseded=True) == ["Anna lives in Bern.", "Anna moved to Zurich."]
    old, new = await anna.get(first.fact.id), await anna.get(second.fact.id)
    assert old is not None
    assert (old.valid_from, old.valid_to, old.superseded_by) == (day(0), day(50), second.fact.id)
    assert new == second.fact
    assert new is not None
    assert (new.tags, new.metadata, new.key, new.user, new.valid_to) == (("place",), {"m": 1}, "home", "anna", None)
    assert (new.learned_at, new.importance, new.kind, new.agent) == (day(TODAY), 0.5, "fact", None)
    assert "Zurich" not in repr(second)


async def test_a_superseding_fact_is_one_write_and_reading_writes_nothing(memory: Memory, collection: Counting) -> None:
    await memory.remember("one", key="k", at=day(0))
    before = collection.writes
    await memory.remember("two", key="k", at=day(1))
    assert collection.writes == before + 1
    await memory.remember("TWO ", key="k")
    await memory.recall("two")
    await memory.facts()
    await memory.history("k")
    assert collection.writes == before + 1


async def test_an_older_fact_goes_before_the_newer_one(memory: Memory) -> None:
    await memory.remember("three", key="k", at=day(30))
    (one,) = await memory.remember("one", key="k", at=day(10))
    (two,) = await memory.remember("two", key="k", at=day(20))
    assert (one.op, two.op, two.replaced) == ("added", "superseded", (one.fact.id,))
    assert texts(await memory.history("k")) == ["three", "two", "one"]
    assert texts(await memory.facts()) == ["three"]
    for at, expected in ((5, []), (10, ["one"]), (19.9, ["one"]), (20, ["two"]), (30, ["three"])):
        assert await recalled(memory, at=day(at)) == expected


async def test_scopes_see_themselves_and_what_is_inside_them(memory: Memory) -> None:
    anna, ben = memory.scope(user="anna"), memory.scope(user="ben")
    session = anna.scope(session="s1")
    await anna.remember("anna's", key="home")
    await session.remember("anna's in s1", key="home")
    (change,) = await ben.remember("ben's", key="home")
    assert change.op == "added"
    await memory.remember("everyone's")
    assert await recalled(memory) == ["anna's", "anna's in s1", "ben's", "everyone's"]
    assert await recalled(anna) == ["anna's", "anna's in s1"]
    assert await recalled(session) == ["anna's in s1"]
    assert await recalled(memory.scope(agent="a")) == []
    assert await anna.get(change.fact.id) is None
    assert await anna.forget(change.fact.id) == 0
    assert texts(await anna.history("home")) == ["anna's"]
    with pytest.raises(InvalidArgument, match="another user"):
        anna.scope(user="ben")
    assert await anna.forget(everything=True) == 2
    assert await recalled(memory) == ["ben's", "everyone's"]


async def test_filters_and_weights(memory: Memory, clock: Clock) -> None:
    await memory.remember("old", kind="event", tags=["a", "b"], importance=1.0, at=day(0), metadata={"topic": "x"})
    await memory.remember("new", tags=["a"], importance=0.0, source="mail")
    assert await recalled(memory, kind="event") == ["old"]
    assert await recalled(memory, tags=["a", "b"]) == ["old"]
    assert await recalled(memory, where={"metadata.topic": "x"}) == ["old"]
    assert await recalled(memory, where={"importance": {"$lt": 0.5}}) == ["new"]
    assert texts(await memory.facts({"source": "mail"})) == ["new"]
    plain = {one.fact.text: one for one in await memory.recall("old", 2, min_similarity=-1)}
    assert plain["old"].score == plain["old"].similarity == pytest.approx(1, abs=0.01)
    aged = {one.fact.text: one for one in await memory.recall("old", 2, half_life_days=100, min_similarity=-1)}
    assert aged["old"].score == pytest.approx(0.75 * aged["old"].similarity)
    assert aged["new"].score == pytest.approx(aged["new"].similarity)
    important = {one.fact.text: one for one in await memory.recall("old", 2, importance_weight=1, min_similarity=-1)}
    assert important["old"].score == pytest.approx(1.5 * important["old"].similarity)
    clock.day += 1
    assert texts([one.fact for one in await memory.recall("old", 1)]) == ["old"]


async def test_what_has_expired_is_not_recalled(memory: Memory, clock: Clock) -> None:
    await memory.remember("The code is 1234.", expires=day(TODAY + 1))
    assert await recalled(memory) == ["The code is 1234."]
    clock.day += 1
    assert await recalled(memory) == []
    assert await memory.facts() == []
    assert texts(await memory.facts(superseded=True)) == ["The code is 1234."]
    assert await recalled(memory, at=day(TODAY)) == ["The code is 1234."]
    (again,) = await memory.remember("The code is 1234.")
    assert again.op == "added"


async def test_forgetting_takes_every_older_version_along(memory: Memory, collection: Counting) -> None:
    for number in range(4):
        await memory.remember(f"version {number}", key="k", at=day(number))
    await memory.remember("other", tags=["t"])
    newest_first = await memory.history("k")
    assert await memory.forget(newest_first[2].id) == 2
    assert texts(await memory.history("k")) == ["version 3", "version 2"]
    assert await memory.forget(where={"key": "k", "holds": True}) == 2
    assert await memory.forget("unknown") == 0
    assert texts(await memory.facts(superseded=True)) == ["other"]
    assert await memory.forget(where={"tags": {"$contains": "t"}}) == 1
    assert await collection.count() == 0


@pytest.mark.parametrize("options", [{}, {"where": {}, "everything": True}])
async def test_what_to_forget_is_said_in_one_way(memory: Memory, options: dict[str, Any]) -> None:
    await memory.remember("kept")
    with pytest.raises(InvalidArgument, match="ids, where=… or everything=True"):
        await memory.forget(**options)
    assert texts(await memory.facts()) == ["kept"]


async def test_of_messages_each_of_the_user_is_a_fact(memory: Memory) -> None:
    said = [{"role": "user", "content": "I like tea."}, {"role": "assistant", "content": "Noted."}]
    assert [change.op for change in await memory.remember([*said, {"role": "user", "content": "i like TEA."}])] == [
        "added",
        "known",
    ]
    assert texts(await memory.facts()) == ["I like tea."]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"what": " "}, "empty"),
        ({"what": [{"role": "user"}]}, "role and content"),
        ({"what": 1}, "role and content"),
        ({"what": "x", "at": day(TODAY + 1)}, "future"),
        ({"what": "x", "tags": "ab"}, "tags"),
        ({"what": "x", "importance": 2}, "importance"),
        ({"what": "x", "key": ""}, "key is empty"),
        ({"what": "x", "kind": " "}, "kind is empty"),
    ],
)
async def test_what_cannot_be_remembered_is_refused(memory: Memory, arguments: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidArgument, match=complaint):
        await memory.remember(**arguments)
    assert await memory.facts(superseded=True) == []


async def test_clients_that_supersede_the_same_at_once_agree_and_lose_nothing(
    collection: Counting, memory: Memory
) -> None:
    await memory.remember("first", key="k", at=day(0))
    others = [Memory(collection, clock=lambda: day(TODAY)) for _ in range(4)]
    await asyncio.gather(*(one.remember(f"by {i}", key="k", at=day(1 + i)) for i, one in enumerate(others)))
    assert texts(await memory.history("k")) == ["by 3", "by 2", "by 1", "by 0", "first"]
    assert texts(await memory.facts()) == ["by 3"]
    for i in range(4):
        assert await recalled(memory, at=day(1.5 + i)) == [f"by {i}"]


async def test_clients_that_write_into_the_past_at_once_agree(collection: Counting, memory: Memory) -> None:
    await memory.remember("first", key="k", at=day(0))
    await memory.remember("last", key="k", at=day(9))
    others = [Memory(collection, clock=lambda: day(TODAY)) for _ in range(6)]
    await asyncio.gather(*(one.remember(f"by {i}", key="k", at=day(1 + i)) for i, one in enumerate(others)))
    assert texts(await memory.history("k")) == ["last", *(f"by {i}" for i in reversed(range(6))), "first"]
    for i in range(6):
        assert await recalled(memory, at=day(1.5 + i)) == [f"by {i}"]


async def test_a_record_of_another_kind_is_one_clear_error(memory: Memory, collection: Counting) -> None:
    await collection.upsert([Record("x", "no fact", {"scope": "s", "holds": True})])
    with pytest.raises(UnknownContent, match="is not a fact"):
        await memory.facts()


async def test_a_model_is_needed(context: ExecutionContext, xtrace: XTraceIntegration, clock: Clock) -> None:
    without = await Collection.open(xtrace, context, "no model")
    with pytest.raises(InvalidArgument, match="no model is known"):
        Memory(without)
    memory = Memory(without, Model(), clock=clock)
    await memory.remember("one", key="k", at=day(0))
    await memory.remember("two", key="k", at=day(1))
    ((found),) = await memory.recall("two", 1)
    assert (found.fact.text, round(found.similarity, 1)) == ("two", 1.0)


class PlainModel:
    """The model without `async`."""

    def embed_many(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.array([vector_of(text) for text in texts], dtype=np.float32)

    def bin_embed_many(self, texts: Sequence[str]) -> NDArray[np.uint8]:
        return float_to_bits(self.embed_many(texts))


def test_the_synchronous_memory_does_the_same(credentials: Credentials) -> None:
    with sync.XTraceIntegration(
        credentials.org_id, credentials.api_key, credentials.admin_key, credentials.api_url
    ) as xtrace:
        collection = sync.Collection.open(xtrace, toy_context(), "memory", embedding=PlainModel())
        anna = sync.Memory(collection, clock=lambda: day(TODAY)).scope(user="anna")
        anna.remember("Anna lives in Bern.", key="home", at=day(0))
        (change,) = anna.remember("Anna moved to Zurich.", key="home", at=day(1))
        assert change.op == "superseded"
        assert [one.fact.text for one in anna.recall("Anna moved to Zurich.", 1)] == ["Anna moved to Zurich."]
        assert anna.forget(everything=True) == 2


# With a language model


def by_rules(body: dict[str, Any]) -> Plan:
    """Finds who lives or moved where, and merges what speaks of tea."""
    told = json.loads(body["messages"][-1]["content"])
    if isinstance(told, list):
        about_tea = [one["id"] for one in told if "tea" in one["text"]]
        found = [{"ids": about_tea, "text": "Anna likes tea of every kind."}] if len(about_tea) > 1 else []
        return completion(json.dumps({"merges": found}))
    facts: list[dict[str, Any]] = []
    for message in told["messages"]:
        for verb in ("live in ", "moved to "):
            if verb in message["content"]:
                place = message["content"].partition(verb)[2].rstrip(".")
                old = [one["id"] for one in told["known"] if "lives in" in one["text"] and verb == "moved to "]
                facts.append({"text": f"Anna lives in {place}", "key": "home", "replaces": old[0] if old else None})
    return completion("```json\n" + json.dumps({"facts": facts}) + "\n```")


@pytest.fixture
def model() -> Iterator[LanguageModel]:
    with language_model() as server:
        server.rules = by_rules
        yield server


@pytest.fixture
def informed(collection: Counting, model: LanguageModel, clock: Clock) -> Memory:
    client = InferenceClient("custom", "rules", base_url=model.url)
    return Memory(collection, llm=client, clock=clock).scope(user="anna")


async def test_a_language_model_extracts_and_replaces_facts(informed: Memory, model: LanguageModel) -> None:
    said = [{"role": "user", "content": "Hi! I live in Bern."}, {"role": "assistant", "content": "Nice."}]
    assert [change.op for change in await informed.remember(said)] == ["added"]
    assert [change.op for change in await informed.remember("I moved to Rome.")] == ["superseded"]
    assert texts(await informed.facts()) == ["Anna lives in Rome"]
    assert texts(await informed.history("home")) == ["Anna lives in Rome", "Anna lives in Bern"]
    assert await informed.remember("What a nice day") == []
    # It is sent the messages, and what they are about: nothing else of the memory.
    sent = json.loads(model.requests[1]["messages"][-1]["content"])
    assert sent == {
        "messages": [{"role": "user", "content": "I moved to Rome."}],
        "known": [{"id": 0, "text": "Anna lives in Bern", "key": "home"}],
    }


async def test_facts_that_say_the_same_become_one(memory: Memory, informed: Memory, clock: Clock) -> None:
    anna = memory.scope(user="anna")
    await anna.remember("Anna drinks green tea.", importance=0.9, tags=["drinks"])
    clock.day += 1
    await anna.remember("Anna loves black tea.", tags=["taste"])
    await anna.remember("Anna plays chess.")
    clock.day += 1
    (change,) = await informed.consolidate()
    assert change.op == "superseded"
    assert len(change.replaced) == 2
    assert (change.fact.text, change.fact.importance) == ("Anna likes tea of every kind.", 0.9)
    assert change.fact.tags == ("drinks", "taste")
    assert texts(await anna.facts()) == ["Anna plays chess.", "Anna likes tea of every kind."]
    assert await recalled(anna, at=day(TODAY + 1)) == [
        "Anna drinks green tea.",
        "Anna loves black tea.",
        "Anna plays chess.",
    ]
    assert len(await anna.history(change.fact.id)) == 3
    assert await informed.consolidate() == []
    assert await anna.forget(change.fact.id) == 3
    with pytest.raises(InvalidArgument, match="needs a language model"):
        await anna.consolidate()


@pytest.mark.parametrize(
    "answer",
    [
        "no JSON",
        '{"facts": 1}',
        '{"facts": [{"text": ""}]}',
        '{"facts": [{"text": "x", "importance": 7}]}',
        '{"facts": [{"text": "x", "replaces": 3}]}',
        '{"facts": [{"text": "x", "replaces": -1}]}',
        json.dumps({"facts": [{"text": "x"}] * 65}),
        json.dumps({"facts": [{"text": "x" * 9000}]}),
    ],
)
async def test_an_answer_that_cannot_be_used_stores_nothing(
    informed: Memory, model: LanguageModel, answer: str
) -> None:
    model.plans = [completion(answer)]
    with pytest.raises(InferenceError) as raised:
        await informed.remember("I live in Bern.")
    assert "Bern" not in str(raised.value)
    assert await informed.facts(superseded=True) == []
