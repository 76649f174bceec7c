"""`XTraceStore` beside LangGraph's own `InMemoryStore`: both are told the same, and asked the same."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding
from langgraph.store.base import GetOp, ListNamespacesOp, PutOp, SearchItem, SearchOp
from langgraph.store.memory import InMemoryStore
from langmem import create_manage_memory_tool, create_search_memory_tool

from langchain_xtrace.langgraph import XTraceStore
from support.collecting import DIM, Model
from support.frameworks import NewCollection, watched_collection
from xtrace_sdk.errors import InvalidFilter

MODEL = DeterministicFakeEmbedding(size=16)
NAMESPACES = [("users",), ("users", "ada"), ("users", "ada", "notes"), ("users", "alan"), ("teams", "ada"), ("a*", "ü")]


@pytest.fixture
def stores(new_collection: NewCollection) -> tuple[XTraceStore, InMemoryStore]:
    """Both, with the same items after the same changes."""
    ours = XTraceStore(new_collection(16), MODEL, fields=["text"])
    theirs = InMemoryStore(index={"dims": 16, "embed": MODEL, "fields": ["text"]})
    chance = random.Random(7)
    ops: list[PutOp] = []
    for n in range(60):
        # How an item is indexed follows from its key: LangGraph's own keeps the vectors of what it replaces.
        key = chance.randrange(25)
        value: dict[str, Any] = {"n": n % 7, "kind": "ab"[n % 2], "inside": {"deep": n % 3}, "list": [n % 2]}
        if key % 5:
            value["text"] = f"text {n}"
        index: Any = False if key % 11 == 0 else ["kind"] if key % 13 == 0 else None
        ops.append(PutOp(chance.choice(NAMESPACES), f"key {key}", value, index))
    ops[20::20] = [PutOp(op.namespace, op.key, None) for op in ops[20::20]]
    for start in range(0, len(ops), 15):
        for store in (ours, theirs):
            store.batch(ops[start : start + 15])
    return ours, theirs


def shown(item: Any) -> Any:
    return None if item is None else (item.namespace, item.key, item.value)


def test_every_item_is_the_same(stores: tuple[XTraceStore, InMemoryStore]) -> None:
    ours, theirs = stores
    ops = [GetOp(namespace, f"key {n}") for namespace in NAMESPACES for n in range(25)]
    expected = [shown(one) for one in theirs.batch(ops)]
    assert [shown(one) for one in ours.batch(ops)] == expected
    assert 20 < sum(one is not None for one in expected) < 60


FILTERS: list[dict[str, Any] | None] = [
    None,
    {"kind": "a"},
    {"n": {"$gte": 3}, "kind": {"$ne": "a"}},
    {"n": {"$gt": 1, "$lt": 5}},
    {"n": {"$lte": 2, "$eq": 1}},
    {"inside": {"deep": 1}},
    {"inside": {"deep": {"$gte": 1}}},
    {"list": [1]},
    {"text": None},
]


@pytest.mark.parametrize("where", FILTERS)
async def test_listings_are_the_same(stores: tuple[XTraceStore, InMemoryStore], where: dict[str, Any] | None) -> None:
    ours, theirs = stores
    for prefix in [(), *NAMESPACES, ("nowhere",)]:
        expected = sorted(map(repr, map(shown, theirs.search(prefix, filter=where, limit=100))))
        found = ours.search(prefix, filter=where, limit=100)
        assert sorted(map(repr, map(shown, found))) == expected
        assert {(type(one), one.score) for one in found} <= {(SearchItem, None)}
        pages = [await ours.asearch(prefix, filter=where, limit=7, offset=start) for start in range(0, 70, 7)]
        assert [shown(one) for page in pages for one in page] == [shown(one) for one in found]


@pytest.mark.parametrize("where", FILTERS)
async def test_searches_by_similarity_are_the_same(
    stores: tuple[XTraceStore, InMemoryStore], where: dict[str, Any] | None
) -> None:
    ours, theirs = stores
    for prefix in [(), ("users",), ("users", "ada")]:
        for limit, offset in ((4, 0), (3, 2), (100, 0)):
            options: dict[str, Any] = {"query": "text", "filter": where, "limit": limit, "offset": offset}
            expected = theirs.search(prefix, **options)
            for found in (ours.search(prefix, **options), await ours.asearch(prefix, **options)):
                scored = [(shown(one), one.score) for one in found if one.score is not None]
                theirs_scored = [(shown(one), one.score) for one in expected if one.score is not None]
                assert sorted(repr(one) for one, _ in scored) == sorted(repr(one) for one, _ in theirs_scored)
                assert [score for _, score in scored] == pytest.approx([score for _, score in theirs_scored], abs=1e-6)
                assert len(found) == len(expected)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"prefix": ("users",)},
        {"prefix": ("users", "*"), "max_depth": 2},
        {"suffix": ("ada",)},
        {"prefix": ("*", "ada"), "suffix": ("notes",)},
        {"max_depth": 1},
        {"limit": 2, "offset": 1},
        {"prefix": ("nowhere",)},
    ],
)
async def test_namespaces_are_the_same(stores: tuple[XTraceStore, InMemoryStore], options: dict[str, Any]) -> None:
    ours, theirs = stores
    # LangGraph's own also lists namespaces whose items are all deleted.
    expected = [one for one in theirs.list_namespaces(**options) if "limit" in options or theirs.search(one)]
    assert ours.list_namespaces(**options) == await ours.alist_namespaces(**options) == expected


async def test_reads_of_a_batch_come_before_its_writes(new_collection: NewCollection) -> None:
    store = XTraceStore(new_collection(16), MODEL)
    written = store.batch([PutOp(("a",), "k", {"x": 1}), GetOp(("a",), "k"), PutOp(("a",), "k", {"x": 2})])
    assert written == [None, None, None]
    put, got, found, names = await store.abatch(
        [PutOp(("a",), "k", {"x": 3}), GetOp(("a",), "k"), SearchOp(("a",)), ListNamespacesOp()]
    )
    assert (put, shown(got), names) == (None, (("a",), "k", {"x": 2}), [("a",)])
    assert isinstance(found, list)
    assert [shown(one) for one in found] == [(("a",), "k", {"x": 2})]
    item = await store.aget(("a",), "k")
    assert item is not None
    assert item.value == {"x": 3}
    assert item.created_at < item.updated_at
    await store.adelete(("a",), "k")
    assert store.get(("a",), "k") is None


def test_without_a_model_items_are_found_by_value_alone(new_collection: NewCollection) -> None:
    store = XTraceStore(new_collection(16))
    store.put(("a",), "k", {"x": 1})
    assert [one.score for one in store.search(("a",), query="anything")] == [None]
    with pytest.raises(InvalidFilter):
        store.search(("a",), filter={"x": {"$regex": "."}})


def test_the_model_of_the_collection_serves(new_collection: NewCollection) -> None:
    store = XTraceStore(new_collection(DIM, embedding=Model()), fields=["text"])
    store.put(("a",), "1", {"text": "one"})
    store.put(("a",), "2", {"text": "two"})
    found = store.search(("a",), query="two", limit=1)
    assert [one.key for one in found] == ["2"]
    assert found[0].score == pytest.approx(1)


@pytest.fixture
def tools() -> Callable[[XTraceStore], tuple[Any, Any]]:
    return lambda store: (
        create_manage_memory_tool(("memories", "ada"), store=store),
        create_search_memory_tool(("memories", "ada"), store=store),
    )


async def test_the_tools_of_langmem_run_on_it(
    new_collection: NewCollection, tools: Callable[[XTraceStore], tuple[Any, Any]]
) -> None:
    manage, search = tools(XTraceStore(new_collection(16), MODEL))
    created = manage.invoke({"content": "Ada drinks tea.", "action": "create"})
    key = created.split()[-1]
    assert "Ada drinks tea." in search.invoke({"query": "tea"})
    await manage.ainvoke({"content": "Ada drinks coffee.", "action": "update", "id": key})
    assert "Ada drinks coffee." in await search.ainvoke({"query": "drinks"})
    manage.invoke({"action": "delete", "id": key})
    assert "Ada" not in search.invoke({"query": "drinks"})


MARKS = {
    "label": "Buchhaltungsabteilung",
    "key": "Schwippschwager-4711",
    "field": "Zahlungsmoral",
    "value": "miserable beyond Popayan",
    "question": "Who is in debt, Nebuchadnezzar?",
}


async def test_nothing_secret_reaches_the_server(tmp_path: Path) -> None:
    label, key, field, value, question = MARKS.values()
    with watched_collection(tmp_path, 16) as watched:
        store = XTraceStore(watched.collection, MODEL)
        store.put((label, "a"), key, {field: value})
        await store.aput((label,), key, {field: [value]}, index=False)
        assert len(store.search((label,), query=question, filter={field: {"$ne": f"{value}?"}})) == 2
        assert len(await store.asearch((label,), filter={field: value})) == 1
        assert store.list_namespaces(prefix=(label,)) == [(label,), (label, "a")]
        store.delete((label,), key)
        assert watched.found(MARKS) == []
