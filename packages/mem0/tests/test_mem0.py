"""mem0 on XTrace, with a model and a language model that answer by rules."""

import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mem0 import AsyncMemory, Memory

from docs.examples import ROOT, examples
from support.frameworks import NewCollection, printed, watched_collection
from xtrace_sdk.errors import InvalidArgument
from xtrace_sdk.integrations.mem0 import XTrace, register
from xtrace_sdk.sync import Collection

DIM = 64
NO_KEY = {"provider": "openai", "config": {"api_key": "none"}}


class Words:
    """A model by the words of a text."""

    def embed(self, text: str, memory_action: str | None = None) -> list[float]:
        vector = np.zeros(DIM)
        for word in text.lower().replace(".", "").replace("?", "").split():
            vector += np.random.default_rng(zlib.crc32(word.encode())).normal(size=DIM)
        return list(vector)

    def embed_batch(self, texts: list[str], memory_action: str | None = None) -> list[list[float]]:
        return [self.embed(text) for text in texts]


class Sentences:
    """A language model that takes each sentence of the last message for a fact."""

    def generate_response(self, messages: list[dict[str, str]], **_: Any) -> str:
        told = messages[-1]["content"].rpartition("I am Carl")[1:]
        facts = [one.strip() for one in "".join(told).partition("\n")[0].split(".") if one.strip()]
        return json.dumps({"memory": [{"id": str(i), "text": fact} for i, fact in enumerate(facts)]})


@pytest.fixture
def open_collection(new_collection: NewCollection) -> Callable[[str], Collection]:
    opened: dict[str, Collection] = {}

    def open_collection(name: str) -> Collection:
        if name not in opened:
            opened[name] = new_collection(DIM, namespace=name)
        return opened[name]

    return open_collection


def configuration(open_collection: Callable[[str], Collection], **more: Any) -> dict[str, Any]:
    register()
    store = {"provider": "xtrace", "config": {"open_collection": open_collection}}
    return {"vector_store": store, "llm": NO_KEY, "embedder": NO_KEY, **more}


def with_rules(memory: Any) -> Any:
    memory.embedding_model, memory.llm = Words(), Sentences()
    return memory


@pytest.fixture
def memory(open_collection: Callable[[str], Collection]) -> Any:
    return with_rules(Memory.from_config(configuration(open_collection)))


def texts(found: dict[str, Any]) -> list[str]:
    return [one["memory"] for one in found["results"]]


def test_memories_are_added_found_changed_and_deleted(memory: Any) -> None:
    tea = memory.add("Anna likes green tea", user_id="anna", infer=False)["results"][0]["id"]
    memory.add("Anna lives in Bern", user_id="anna", metadata={"topic": "place", "year": 2020}, infer=False)
    memory.add("Ben likes black coffee", user_id="ben", infer=False)
    assert texts(memory.search("green tea", filters={"user_id": "anna"}, threshold=0.0))[0] == "Anna likes green tea"
    memory.update(tea, "Anna likes white tea")
    assert memory.get(tea)["memory"] == "Anna likes white tea"
    assert [one["event"] for one in memory.history(tea)] == ["ADD", "UPDATE"]
    memory.delete(tea)
    assert memory.get(tea) is None
    assert texts(memory.get_all(filters={"user_id": "anna"})) == ["Anna lives in Bern"]
    memory.delete_all(user_id="anna")
    assert texts(memory.get_all(filters={"user_id": "anna"})) == []
    assert texts(memory.get_all(filters={"user_id": "ben"})) == ["Ben likes black coffee"]
    memory.reset()
    assert texts(memory.get_all(filters={"user_id": "ben"})) == []


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"year": {"gte": 2020}}, {"b"}),
        ({"year": {"gt": 2000, "lt": 2020}}, {"a"}),
        ({"topic": {"in": ["x", "y"]}}, {"a", "b"}),
        ({"topic": {"nin": ["x"]}}, {"b", "c"}),
        ({"topic": {"ne": "y"}}, {"a", "c"}),
        ({"topic": "*"}, {"a", "b"}),
        ({"topic": {"icontains": "Y"}}, {"b"}),
        ({"OR": [{"topic": "x"}, {"year": {"eq": 2021}}]}, {"a", "b"}),
        ({"NOT": [{"topic": "x"}, {"topic": "y"}]}, {"c"}),
        ({"AND": [{"topic": "x"}, {"year": {"lte": 2010}}]}, {"a"}),
    ],
)
def test_filters_are_mem0s(memory: Any, more: dict[str, Any], expected: set[str]) -> None:
    memory.add("a", user_id="u", metadata={"topic": "x", "year": 2010}, infer=False)
    memory.add("b", user_id="u", metadata={"topic": "y", "year": 2021}, infer=False)
    memory.add("c", user_id="u", infer=False)
    assert set(texts(memory.search("a b c", filters={"user_id": "u", **more}, threshold=0.0))) == expected


def test_facts_are_inferred_and_recognised(memory: Any) -> None:
    told = "I am Carl. Carl is allergic to peanuts. Carl works at Acme"
    assert len(memory.add(told, user_id="carl")["results"]) == 3
    assert memory.add(told, user_id="carl")["results"] == []
    found = texts(memory.search("allergic to what", filters={"user_id": "carl"}, threshold=0.0))
    assert found[0] == "Carl is allergic to peanuts"


async def test_the_asynchronous_memory_runs_on_it(open_collection: Callable[[str], Collection]) -> None:
    memory = with_rules(AsyncMemory.from_config(configuration(open_collection)))
    if hasattr(memory, "__await__"):
        memory = with_rules(await memory)
    added = await memory.add("Anna likes green tea", user_id="anna", infer=False)
    found = await memory.search("tea", filters={"user_id": "anna"}, threshold=0.0)
    assert texts(found) == ["Anna likes green tea"]
    await memory.delete(added["results"][0]["id"])
    assert texts(await memory.get_all(filters={"user_id": "anna"})) == []


def test_no_text_is_written_to_a_file(
    open_collection: Callable[[str], Collection], caplog: pytest.LogCaptureFixture
) -> None:
    memory = with_rules(Memory.from_config(configuration(open_collection)))
    assert "history is kept in memory" in caplog.text
    memory.add("I am Carl. Carl is allergic to peanuts", user_id="carl")
    assert len(memory.history(texts_ids(memory)[0])) == 1
    files = [path for path in Path(os.environ["MEM0_DIR"]).rglob("*") if path.is_file()]
    assert not [path for path in files if b"peanuts" in path.read_bytes()]
    with pytest.raises(InvalidArgument, match="history_db_path: omit it"):
        Memory.from_config(configuration(open_collection, history_db_path="history.db"))
    Memory.from_config(configuration(open_collection, history_db_path=":memory:"))


def texts_ids(memory: Any) -> list[str]:
    return [one["id"] for one in memory.get_all(filters={"user_id": "carl"})["results"]]


def test_the_vector_store_alone(open_collection: Callable[[str], Collection]) -> None:
    store = XTrace(open_collection, "alone")
    store.insert([[1, 0] * 32, [0, 1] * 32], [{"data": "first"}, {"data": "second", "n": 1}], ["1", "2"])
    assert [(one.id, one.payload) for one in store.search("", [1, 0] * 32, 1)] == [("1", {"data": "first"})]
    store.update("1", payload={"data": "first", "n": 2})
    assert [one.id for one in store.list({"n": 2})[0]] == ["1"]
    assert len(store.list(top_k=1)[0]) == 1
    assert store.col_info() == {"name": "alone", "count": 2}
    assert store.list_cols() == ["alone"]
    with pytest.raises(InvalidArgument, match="an operator that mem0 does not have"):
        store.list({"n": {"regex": "."}})
    store.delete_col()
    assert store.get("1") is None


MARKS = {
    "text": "Quetzalcoatl owes the bank eleven million",
    "user": "Schwippschwager-4711",
    "field": "Zahlungsmoral",
    "value": "miserable beyond Popayan",
    "changed text": "Nebuchadnezzar paid the ransom in gold",
}


def test_nothing_secret_reaches_the_server(tmp_path: Path) -> None:
    text, user, field, value, changed = MARKS.values()
    with watched_collection(tmp_path, DIM) as watched:
        memory = with_rules(Memory.from_config(configuration(lambda name: watched.collection)))
        key = memory.add(text, user_id=user, metadata={field: value}, infer=False)["results"][0]["id"]
        assert texts(memory.search(text, filters={"user_id": user, field: value}, threshold=0.0)) == [text]
        memory.update(key, changed)
        assert texts(memory.get_all(filters={"user_id": user})) == [changed]
        memory.delete(key)
        assert watched.found(MARKS) == []


def test_the_example_of_the_page_runs(reader_folder: Path) -> None:
    page = examples(ROOT / "docs" / "integrations.md")
    asked = """
from mem0 import Memory

no_key = {"provider": "openai", "config": {"api_key": "none"}}
memory = Memory.from_config({**configuration, "llm": no_key, "embedder": no_key})
print(memory.get_all(filters={"user_id": "anna"}))
"""
    assert printed(page["connect"] + page["mem0"] + asked, reader_folder) == "{'results': []}\n"


def test_another_version_of_mem0_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xtrace_sdk.integrations.mem0.version", lambda name: "3.0.1")
    with pytest.raises(ImportError, match=r"mem0ai is 3\.0\.1, expected 2\.2\.x"):
        register()
