"""`Collection` against the real server: records with ids and metadata of one's own."""

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from support.collecting import DIM, BitsModel, Model, cosine, toy_context, vector_of
from support.existing_client import PASSPHRASE, ExistingClientKey
from xtrace_sdk import (
    Collection,
    DataLoader,
    PassphraseKeyProvider,
    Range,
    Record,
    Retriever,
    copy_knowledge_base,
    sync,
)
from xtrace_sdk.errors import (
    InvalidArgument,
    InvalidFilter,
    InvalidMetaData,
    InvalidRecord,
    InvalidVector,
    KnowledgeBaseNotFound,
    OtherCollection,
    OtherModel,
    PartlyStored,
    PermissionDenied,
    RecordNotFound,
    RecordsExist,
)
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.chunks.vectors import float_to_bits
from xtrace_sdk.x_vec.inference.model import EmbeddingModel
from xtrace_sdk.x_vec.upkeep.rotation import rotate
from xtrace_sdk.x_vec.upkeep.verification import verify
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
from xtrace_server.credentials import Credentials

LETTERS: list[dict[str, Any]] = [
    {"id": "invoice", "text": "The March invoice is still unpaid.", "metadata": {"topic": "finance", "year": 2026}},
    {"id": "cat", "text": "The cat is asleep.", "metadata": {"topic": "home", "tags": ["pet", "warm"], "year": 2025}},
    {"id": "merger", "text": "Our lawyers advise against it.", "metadata": {"topic": "legal", "open": True}},
    {"id": "note", "metadata": {"year": 2026.0, "author": {"name": "Ada"}}},
]
IDS: list[str] = [one["id"] for one in LETTERS]


@pytest.fixture(scope="module")
def context(request: pytest.FixtureRequest) -> ExecutionContext:
    return toy_context(private_metadata=getattr(request, "param", False))


UNDER_ANY_CONTEXT = pytest.mark.parametrize("context", [False, True], indirect=True, ids=["clear tags", "private tags"])
"""Whatever fields of metadata the context keeps private: the hashes of records are the collection's own."""


@pytest.fixture
async def collection(context: ExecutionContext, xtrace: XTraceIntegration) -> Collection:
    opened = await Collection.open(xtrace, context, "letters", embedding=Model())
    await opened.upsert(LETTERS)
    return opened


async def ids(collection: Collection, where: Any = None, **more: Any) -> list[str]:
    return [record.id async for record in collection.iter(where, **more)]


@UNDER_ANY_CONTEXT
async def test_records_come_back_as_they_were_given(collection: Collection) -> None:
    found = await collection.get(["note", "no such id", "cat", "invoice"], include_vectors=True)
    assert [(one.id, one.text, one.metadata) for one in found] == [
        (one["id"], one.get("text"), one["metadata"]) for one in (LETTERS[3], LETTERS[1], LETTERS[0])
    ]
    note, cat, _ = found
    assert note.vector is None
    assert np.linalg.norm(cat.vector) == pytest.approx(1, abs=1e-5)
    assert cosine(cat.vector, vector_of("The cat is asleep.")) > 0.999
    assert isinstance(cat.created_at, datetime)
    assert cat.created_at <= datetime.now(UTC)
    assert (await collection.get(["cat"]))[0].vector is None
    assert await collection.get([]) == []


async def test_opening_finds_the_collection_by_its_name_or_by_the_id_of_its_knowledge_base(
    collection: Collection, context: ExecutionContext, xtrace: XTraceIntegration, credentials: Credentials
) -> None:
    again = await Collection.open(xtrace, context, "letters")
    assert (again.kb_id, again.namespace) == (collection.kb_id, "")
    assert await again.count() == len(LETTERS)
    async with XTraceIntegration(credentials.org_id, credentials.api_key, api_url=credentials.api_url) as plain:
        assert await (await Collection.open(plain, context, collection.kb_id)).count() == len(LETTERS)
        with pytest.raises(KnowledgeBaseNotFound):
            await Collection.open(plain, context, "letters")
    with pytest.raises(InvalidArgument, match="name of the collection is empty"):
        await Collection.open(xtrace, context, "")


async def test_of_knowledge_bases_of_one_name_the_first_is_taken(
    context: ExecutionContext, xtrace: XTraceIntegration
) -> None:
    first = await xtrace.create_kb("twice")
    await xtrace.create_kb("twice")
    assert (await Collection.open(xtrace, context, "twice")).kb_id == first.id


async def test_of_programs_that_create_a_collection_at_once_all_get_the_same(
    context: ExecutionContext, xtrace: XTraceIntegration
) -> None:
    opened = await asyncio.gather(*(Collection.open(xtrace, context, "at once") for _ in range(6)))
    assert len({one.kb_id for one in opened}) == 1
    assert [kb.name for kb in await xtrace.list_kbs()] == ["at once"]
    await asyncio.gather(*(one.upsert([{"id": f"{i}"}]) for i, one in enumerate(opened)))
    assert await opened[0].count() == 6
    assert (await xtrace.list_kbs())[0].number_of_vectors == 7  # what the collection keeps about itself, once


async def test_an_empty_collection_has_nothing_and_finds_nothing(xtrace: XTraceIntegration) -> None:
    collection = await Collection.open(xtrace, toy_context(), "empty", embedding=Model())
    assert (await collection.count(), await collection.count({"a": 1}), await ids(collection)) == (0, 0, [])
    assert await collection.search("anything") == []
    assert await collection.get(["a"]) == []
    assert (await collection.delete(["a"]), await collection.delete(where={}), await collection.clear()) == (0, 0, 0)
    with pytest.raises(RecordNotFound):
        await collection.update("a", text="b")


# Upserts


async def test_what_is_done_with_ids_that_are_there(collection: Collection) -> None:
    more = [{"id": "cat", "text": "The cat is hungry."}, {"id": "dog", "text": "The dog barks."}]
    written = await collection.upsert(more, on_conflict="skip")
    assert (written.inserted, written.replaced, written.skipped, written.count) == (("dog",), (), ("cat",), 1)
    assert (await collection.get(["cat"]))[0].text == "The cat is asleep."
    written = await collection.upsert([*more, {"id": "bird"}])
    assert (written.inserted, written.replaced, written.skipped) == (("bird",), ("cat", "dog"), ())
    assert repr(written) == "Written(1 inserted, 2 replaced, 0 skipped)"
    assert (await collection.get(["cat"]))[0] == Record("cat", "The cat is hungry.")
    with pytest.raises(RecordsExist, match=r"2 of 3 records are in the collection already.*positions 0, 2") as error:
        await collection.upsert([{"id": "cat"}, {"id": "new"}, {"id": "dog"}], on_conflict="fail")
    assert error.value.positions == [0, 2]
    assert await collection.get(["new"]) == []
    assert (await collection.upsert([{"id": "new"}], on_conflict="fail")).inserted == ("new",)
    assert await collection.count() == len(LETTERS) + 3


async def test_an_id_that_comes_twice_is_there_the_second_time(collection: Collection) -> None:
    twice = [{"id": "x", "text": "first"}, {"id": "x", "text": "second"}]
    with pytest.raises(RecordsExist, match="positions 1"):
        await collection.upsert(twice, on_conflict="fail")
    await collection.upsert(twice, on_conflict="skip")
    assert (await collection.get(["x"]))[0].text == "first"
    await collection.upsert(twice)
    assert (await collection.get(["x"]))[0].text == "second"


async def test_vectors_are_given_or_embedded_or_left_out(context: ExecutionContext, xtrace: XTraceIntegration) -> None:
    model = Model()
    collection = await Collection.open(xtrace, context, "vectors", embedding=model)
    own = vector_of("something else")
    await collection.upsert(
        [
            {"id": "embedded", "text": "one"},
            {"id": "own", "text": "two", "vector": own.tolist()},
            {"id": "bits", "text": "three", "vector": (vector_of("three") > 0).astype(int).tolist()},
            {"id": "none", "text": "four", "vector": []},
            {"id": "blank", "text": " \n"},
            {"id": "neither"},
            {"id": "alone", "vector": own},
        ]
    )
    assert model.embedded == ["one"]
    assert {hit.record.id for hit in await collection.search("one", 10)} == {"embedded", "own", "bits", "alone"}
    by_id = {hit.record.id: hit for hit in await collection.search(own, 10, include_vectors=True)}
    assert by_id["own"].similarity == by_id["alone"].similarity == pytest.approx(1, abs=1e-3)
    assert by_id["bits"].record.vector is None
    assert by_id["bits"].similarity == pytest.approx(np.cos(np.pi * by_id["bits"].distance / DIM))
    without_model = Collection(xtrace, context, collection.kb_id)
    assert (collection.embeds_texts, without_model.embeds_texts) == (True, False)
    with pytest.raises(InvalidArgument, match="no model is known to embed it"):
        await without_model.upsert([{"id": "z", "text": "a text"}])
    with pytest.raises(InvalidArgument, match="no model is known"):
        await without_model.search("a text")
    assert await collection.count() == 7


async def test_a_record_that_is_not_valid_stops_all_before_anything_is_stored(collection: Collection) -> None:
    long_list = {"id": "x", "metadata": {"a": list(range(2000))}}
    for record, words in (({"id": ""}, "record 600: its id is"), (long_list, "record 600: .* needs 2002 hashes")):
        with pytest.raises(InvalidRecord, match=words):
            await collection.upsert([*({"id": f"fine {i}"} for i in range(600)), record])
    assert await collection.count() == len(LETTERS)


async def test_records_come_as_a_list(collection: Collection) -> None:
    for records in (None, "text", 7, {"id": "x"}, Record("x")):
        with pytest.raises(InvalidArgument, match="expected a list of records"):
            await collection.upsert(records)  # type: ignore[arg-type]


async def test_a_vector_that_is_not_valid_is_refused(collection: Collection) -> None:
    for vector in ([1.0] * 5, [[1.0] * DIM], "text", [float("nan")] * DIM, [2] * DIM, [None] * DIM):
        with pytest.raises(InvalidVector, match="the vector of record 0: "):
            await collection.upsert([{"id": "x", "vector": vector}])
    assert await collection.get(["x"]) == []


async def test_any_json_is_metadata_and_types_of_python_are_converted(collection: Collection) -> None:
    metadata = {
        "": None, "ünïcode 東京": "é\0", "a.b.c": [1, [2.5, {"x": None}], "y"], "big": 2**80, "exact": 2**53 + 1,
        "empty": {}, "$dollar": -0.0, "nested": {"deep": {"er": [True, False]}},
    }  # fmt: skip
    await collection.upsert([Record("json", metadata=metadata)])
    assert (await collection.get(["json"]))[0].metadata == metadata
    numpy: dict[str, Any] = {"f": np.float32(0.5), "i": np.int64(3), "t": (1, 2), "d": date(2026, 3, 1)}
    await collection.upsert([{"id": "json", "metadata": {**numpy, "time": datetime(2026, 3, 1, 12, tzinfo=UTC)}}])
    expected = {"f": 0.5, "i": 3, "t": [1, 2], "d": "2026-03-01", "time": "2026-03-01T12:00:00+00:00"}
    assert (await collection.get(["json"]))[0].metadata == expected


async def test_a_stored_record_can_be_stored_again_as_it_came(collection: Collection) -> None:
    (cat,) = await collection.get(["cat"], include_vectors=True)
    await collection.upsert([cat])
    (again,) = await collection.get(["cat"], include_vectors=True)
    assert again == cat
    assert cosine(again.vector, cat.vector) > 0.999


async def test_many_records_are_stored_in_batches_that_are_each_wholly_there(
    context: ExecutionContext, xtrace: XTraceIntegration
) -> None:
    class Failing(Model):
        async def embed_many(self, texts: Any) -> Any:
            if "text 700" in texts:
                raise RuntimeError("the model is away")
            return await super().embed_many(texts)

    records = [{"id": f"r{i}", "text": f"text {i}", "metadata": {"n": i}} for i in range(1200)]
    failing = await Collection.open(xtrace, context, "many", embedding=Failing())
    with pytest.raises(PartlyStored, match=r"500 of 1200 chunks are stored, .*: the model is away") as error:
        await failing.upsert(records)
    assert isinstance(error.value.__cause__, RuntimeError)
    assert await failing.count() == 500
    collection = Collection(xtrace, context, failing.kb_id, embedding=Model())
    written = await collection.upsert(records)
    assert (len(written.inserted), len(written.replaced)) == (700, 500)
    assert [one.metadata["n"] async for one in collection.iter()] == list(range(1200))
    assert await collection.delete(where={"n": {"$gte": 1000}}) == 200
    assert await collection.count() == 1000


async def test_what_is_stored_before_an_error_is_said(
    context: ExecutionContext, xtrace: XTraceIntegration, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = await Collection.open(xtrace, context, "partly")
    await collection.upsert([{"id": "first"}])
    insert, calls = xtrace._insert, 0

    async def failing(body: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise InvalidArgument("no more")
        return await insert(body)

    monkeypatch.setattr(xtrace, "_insert", failing)
    with pytest.raises(PartlyStored, match="500 of 900 chunks are stored, then the load stopped: no more") as error:
        await collection.upsert([{"id": f"r{i}"} for i in range(900)])
    assert [chunk_id is not None for chunk_id in error.value.chunk_ids] == [True] * 500 + [False] * 400


async def test_what_others_insert_meanwhile_is_noticed(
    collection: Collection, context: ExecutionContext, xtrace: XTraceIntegration, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, insert = Collection(xtrace, context, collection.kb_id), xtrace._insert

    async def overtaken(body: Any) -> Any:
        monkeypatch.setattr(xtrace, "_insert", insert)
        await other.upsert([{"id": "r3"}])
        return await insert(body)

    monkeypatch.setattr(xtrace, "_insert", overtaken)
    with pytest.raises(RecordsExist, match=r"1 of 5 records are in the collection already.*positions 3"):
        await collection.upsert([{"id": f"r{i}"} for i in range(5)], on_conflict="fail")
    assert await collection.count() == len(LETTERS) + 1


# Updates and deletions


@UNDER_ANY_CONTEXT
async def test_an_update_changes_what_is_given_and_keeps_the_ciphertexts_of_the_vector(
    collection: Collection, context: ExecutionContext, xtrace: XTraceIntegration
) -> None:
    async def stored() -> dict[str, Any]:
        chunks = [one async for one in xtrace.iter_meta_search(collection.kb_id, {}, context.id, projection=["index"])]
        return {str(one["chunk_id"]): one["index"] for one in chunks}

    before = await stored()
    changed = await collection.update("cat", metadata={"topic": "pets"})
    assert changed == Record("cat", "The cat is asleep.", {"topic": "pets"})
    assert await stored() == before
    (cat,) = await collection.get(["cat"])
    assert cat == changed
    assert cat.updated_at is not None
    assert cat.created_at is not None
    assert cat.updated_at > cat.created_at
    assert (await ids(collection, {"topic": "pets"}), await ids(collection, {"topic": "home"})) == (["cat"], [])
    assert await ids(collection, {"tags": {"$contains": "pet"}}) == []
    (hit,) = await collection.search("The cat is asleep.", 1)
    assert (hit.record.id, round(hit.similarity, 3)) == ("cat", 1)

    await collection.update("cat", text="The cat purrs.")
    assert (await collection.search("The cat purrs.", 1))[0].similarity == pytest.approx(1, abs=1e-3)
    assert (await collection.get(["cat"]))[0] == Record("cat", "The cat purrs.", {"topic": "pets"})
    await collection.update("cat", vector=vector_of("dog"))
    assert (await collection.search("dog", 1))[0].record.id == "cat"
    await collection.update("cat", vector=[])
    assert "cat" not in {hit.record.id for hit in await collection.search("dog", 10)}
    await collection.update("cat", text=None, metadata={})
    assert (await collection.get(["cat"]))[0] == Record("cat")
    assert await collection.count() == len(LETTERS)
    assert (await verify(context, xtrace, collection.kb_id)).bad == ()


async def test_updates_of_what_is_not_there_or_not_valid_change_nothing(
    collection: Collection, context: ExecutionContext, xtrace: XTraceIntegration
) -> None:
    with pytest.raises(RecordNotFound, match="does not have a record with this id"):
        await collection.update("no such id", text="x")
    with pytest.raises(InvalidRecord):
        await collection.update("cat", metadata={"a": {1}})
    with pytest.raises(InvalidVector):
        await collection.update("cat", vector=[1.0])
    with pytest.raises(InvalidArgument, match="no model is known"):
        await Collection(xtrace, context, collection.kb_id).update("cat", text="another text")
    assert (await collection.get(["cat"]))[0].text == "The cat is asleep."


async def test_of_updates_at_once_none_is_lost(collection: Collection) -> None:
    async def add(number: int) -> None:
        (cat,) = await collection.get(["cat"])
        await collection.update("cat", metadata={**cat.metadata, "last": number})

    await asyncio.gather(*(add(number) for number in range(8)))
    assert (await collection.get(["cat"]))[0].metadata["last"] in range(8)
    await asyncio.gather(collection.update("cat", text="a new text"), collection.update("cat", metadata={"a": 1}))
    assert (await collection.get(["cat"]))[0] == Record("cat", "a new text", {"a": 1})


async def test_deleting_by_ids_by_filter_and_all(collection: Collection) -> None:
    assert await collection.delete(["cat", "no such id", "cat"]) == 1
    assert await collection.delete(where={"year": 2026}) == 2  # 2026 and 2026.0
    assert await ids(collection) == ["merger"]
    await collection.upsert(LETTERS)
    assert await collection.delete(where={"year": {"$lt": 2026}}) == 1
    assert sorted(await ids(collection)) == ["invoice", "merger", "note"]
    assert await collection.clear() == 3
    assert await collection.count() == 0
    await collection.upsert(LETTERS)
    assert sorted(await ids(collection)) == sorted(IDS)
    for call in (collection.delete(), collection.delete(["cat"], where={})):
        with pytest.raises(InvalidArgument, match="either ids or where"):
            await call
    with pytest.raises(InvalidFilter, match="where is null"):
        await collection.delete(where="null")
    assert await collection.count() == len(LETTERS)


# Filters

FILTERS: list[tuple[Any, list[str]]] = [
    (None, IDS),
    ({}, IDS),
    ('{"topic": "home"}', ["cat"]),
    ({"topic": "home"}, ["cat"]),
    ({"topic": {"$ne": "home"}}, ["invoice", "merger", "note"]),
    ({"topic": None}, ["note"]),
    ({"topic": {"$in": ["home", "legal", "other"]}}, ["cat", "merger"]),
    ({"topic": {"$nin": ["home", None]}}, ["invoice", "merger"]),
    ({"topic": {"$begins_with": "f"}}, ["invoice"]),
    ({"topic": {"$ends_with": "e"}}, ["invoice", "cat"]),
    ({"topic": {"$contains": "in"}}, ["invoice"]),
    ({"topic": {"$icontains": "IN"}}, ["invoice"]),
    ({"topic": {"$like": "%o_e"}}, ["cat"]),
    ({"topic": {"$ilike": "L%L"}}, ["merger"]),
    ({"year": 2026}, ["invoice", "note"]),
    ({"year": 2026.0}, ["invoice", "note"]),
    ({"year": "2026"}, []),
    ({"open": True}, ["merger"]),
    ({"open": 1}, []),
    ({"year": {"$gt": 2025}}, ["invoice", "note"]),
    ({"year": {"$gte": 2025, "$lt": 2026}}, ["cat"]),
    ({"year": {"$between": [2020, 2025]}}, ["cat"]),
    ({"year": {"$exists": False}}, ["merger"]),
    ({"tags": {"$contains": "pet"}}, ["cat"]),
    ({"tags": {"$any": ["pet", "cold"]}}, ["cat"]),
    ({"tags": {"$all": ["pet", "cold"]}}, []),
    ({"tags": {"$none": ["pet"]}}, ["invoice", "merger", "note"]),
    ({"tags": ["pet", "warm"]}, ["cat"]),
    ({"tags": {"$size": 2}}, ["cat"]),
    ({"author.name": "Ada"}, ["note"]),
    ({"author": {"name": "Ada"}}, ["note"]),
    ({"$or": [{"topic": "home"}, {"open": True}]}, ["cat", "merger"]),
    ({"$and": [{"year": 2026}, {"$not": {"topic": "finance"}}]}, ["note"]),
    ({"$nor": [{"topic": "home"}, {"open": True}]}, ["invoice", "note"]),
    ({"year": {"$not": {"$gt": 2025}}}, ["cat", "merger"]),
    ({"$id": {"$in": ["cat", "note"]}}, ["cat", "note"]),
    ({"$text": {"$contains": "The"}, "topic": {"$exists": True}}, ["invoice", "cat"]),
    ({"$text": None}, ["note"]),
]


@UNDER_ANY_CONTEXT
async def test_filters_select_exactly(collection: Collection) -> None:
    for where, expected in FILTERS:
        assert await ids(collection, where) == expected
        assert await collection.count(where) == len(expected)
        with_vector = [one for one in expected if one != "note"]
        assert sorted(hit.record.id for hit in await collection.search("x", 10, where=where)) == sorted(with_vector)


async def test_times_compare_as_times(collection: Collection) -> None:
    times = {"a": "2026-03-01", "b": "2026-03-01T12:00:00+02:00", "c": "2026-03-01T11:00:00Z", "d": "March"}
    await collection.upsert([{"id": name, "metadata": {"at": at}} for name, at in times.items()])
    assert await ids(collection, {"at": {"$gt": "2026-03-01T09:59:59Z"}}) == ["b", "c", "d"]  # "March" is a text
    assert await ids(collection, {"at": {"$gt": datetime(2026, 3, 1, 9, 59, 59, tzinfo=UTC)}}) == ["b", "c"]
    assert await ids(collection, {"at": datetime(2026, 3, 1, 10, tzinfo=UTC)}) == ["b"]
    assert await ids(collection, {"at": {"$lte": date(2026, 3, 1)}}) == ["a"]
    assert await ids(collection, {"at": {"$in": [date(2026, 3, 1), "March"]}}) == ["a", "d"]
    assert await ids(collection, {"at": {"$exists": True}}, order_by="at") == ["a", "b", "c", "d"]


async def test_a_filter_that_is_not_valid_is_an_error_before_anything_is_sent(collection: Collection) -> None:
    for call in (
        collection.count,
        lambda where: collection.search("x", where=where),
        lambda where: ids(collection, where),
    ):
        with pytest.raises(InvalidFilter, match=r"where\.topic\.\$regex is not an operator, expected one of \$eq, "):
            await call({"topic": {"$regex": "x"}})
    with pytest.raises(InvalidFilter, match="expected an object"):
        await collection.delete(where="[]")
    assert await collection.count() == len(LETTERS)


async def test_order_and_values(collection: Collection) -> None:
    assert await ids(collection, order_by="year") == ["cat", "invoice", "note", "merger"]
    assert await ids(collection, order_by="year", descending=True) == ["invoice", "note", "cat", "merger"]
    assert await ids(collection, {"topic": {"$exists": True}}, order_by="topic") == ["invoice", "cat", "merger"]
    assert await collection.values("topic") == ["finance", "home", "legal"]
    assert await collection.values("tags") == ["pet", "warm"]
    assert await collection.values("year", {"topic": {"$ne": "finance"}}) == [2025, 2026]
    assert await collection.values("author.name") == ["Ada"]
    assert await collection.values("no such field") == []
    await collection.upsert([{"id": "odd", "metadata": {"topic": ["x", None, 1, 1.0, True, {"a": 1}]}}])
    assert await collection.values("topic") == [True, 1, "finance", "home", "legal", "x", {"a": 1}]
    with pytest.raises(InvalidArgument, match="begins with"):
        await collection.values("$id")


@pytest.mark.parametrize(
    "filterable",
    [False, ["topic"], ["topic", "author"], {"*": True, "year": Range(2000, 2030, 1)}, {"year": Range(0, 9999, 10)}],
)
async def test_answers_are_the_same_whatever_is_filterable(
    context: ExecutionContext, xtrace: XTraceIntegration, filterable: Any
) -> None:
    collection = await Collection.open(xtrace, context, "some", embedding=Model(), filterable=filterable)
    await collection.upsert(LETTERS)
    for where, expected in FILTERS:
        assert await ids(collection, where) == expected
        assert await collection.count(where) == len(expected)
    assert len(await collection.search("x", 1, where={"year": {"$gte": 2025, "$lt": 2026}})) == 1


async def test_filterable_fields_are_fixed_by_the_first_record(
    context: ExecutionContext, xtrace: XTraceIntegration
) -> None:
    fields = {"topic": True, "year": Range(2000, 2030, 1)}
    first = await Collection.open(xtrace, context, "fixed", filterable=fields)
    late = await Collection.open(xtrace, context, "fixed", filterable=["topic"])
    await first.upsert([{"id": "a", "metadata": {"topic": "x", "year": 2020}}])
    with pytest.raises(OtherCollection, match=r"other filterable fields \(topic, year \(a range\)\) than these"):
        await late.upsert([{"id": "b"}])
    with pytest.raises(OtherCollection):
        await Collection.open(xtrace, context, "fixed", filterable=True)
    for same in (fields, dict(reversed(fields.items())), None):
        again = await Collection.open(xtrace, context, "fixed", filterable=same)
        assert await ids(again, {"topic": "x"}) == ["a"]


async def test_the_model_is_fixed_by_the_first_record_if_the_context_names_none(
    context: ExecutionContext, xtrace: XTraceIntegration
) -> None:
    def named(name: str, **more: Any) -> NamedModel:
        return NamedModel(EmbeddingModel("sentence_transformer", name, DIM, **more))

    first = await Collection.open(xtrace, context, "model", embedding=named("/home/ada/models/small"))
    late = await Collection.open(xtrace, context, "model", embedding=named("other/small"))
    await first.upsert([{"id": "a", "text": "The cat is asleep."}])
    sentence = r"^the embedding is sentence_transformer/other/small .* created with sentence_transformer/small with 32"
    with pytest.raises(OtherModel, match=sentence):
        await late.search("cat")
    with pytest.raises(OtherModel, match=sentence):
        await late.upsert([{"id": "b", "text": "x"}])
    with pytest.raises(OtherModel, match="passage prompt 'passage: '"):
        await Collection.open(xtrace, context, "model", embedding=named("small", passage_prompt="passage: "))
    assert len(await late.get(["a"])) == 1  # no vector is compared
    for same in (named("/srv/small"), named("C:\\models\\small"), Model(), None):
        opened = await Collection.open(xtrace, context, "model", embedding=same)
        assert len(await opened.search(vector_of("The cat is asleep."))) == 1
    # One that was created without a model accepts any.
    await (await Collection.open(xtrace, context, "vectors")).upsert([{"id": "a", "vector": vector_of("x")}])
    await (await Collection.open(xtrace, context, "vectors", embedding=named("small"))).search("x")


class NamedModel(Model):
    """A model that says which one it is."""

    def __init__(self, model: EmbeddingModel) -> None:
        super().__init__()
        self.model = model


async def test_a_range_asks_for_nothing_but_what_may_match(
    xtrace: XTraceIntegration, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = await Collection.open(
        xtrace, toy_context(), "ranges", embedding=Model(), filterable={"n": Range(0, 100, 1)}
    )
    await collection.upsert([{"id": str(n), "metadata": {"n": n + 0.5}} for n in range(-20, 120)])
    asked: list[int] = []
    fetch = xtrace.meta_search_paginated

    async def watched(*arguments: Any) -> Any:
        page = await fetch(*arguments)
        asked.append(len(page.results))
        return page

    monkeypatch.setattr(xtrace, "meta_search_paginated", watched)
    assert await ids(collection, {"n": {"$gt": 49.5, "$lt": 54}}) == ["50", "51", "52", "53"]
    assert sum(asked) <= 6
    assert len(await ids(collection, {"n": {"$lt": -10}})) == 10
    assert len(await ids(collection, {"n": {"$gte": 99}})) == 21


# Searches


@pytest.mark.parametrize("kind", ["int8", "float32", None])
async def test_the_most_similar_come_first(context: ExecutionContext, xtrace: XTraceIntegration, kind: Any) -> None:
    collection = await Collection.open(xtrace, context, "similar", embedding=Model(), vector_copy=kind)
    texts = [f"text {i}" for i in range(60)]
    await collection.upsert([{"id": text, "text": text, "metadata": {"n": i}} for i, text in enumerate(texts)])
    query = vector_of("query")
    exact = {text: cosine(query, vector_of(text)) for text in texts}
    distances = {text: int(((query > 0) != (vector_of(text) > 0)).sum()) for text in texts}
    hits = await collection.search("query", 5, rescore=1000)
    if kind is None:
        by_bits = sorted(texts, key=lambda text: distances[text])
        assert [hit.distance for hit in hits] == [distances[text] for text in by_bits[:5]]
        assert all(hit.similarity == pytest.approx(np.cos(np.pi * hit.distance / DIM)) for hit in hits)
    else:
        assert [hit.record.id for hit in hits] == sorted(texts, key=lambda text: -exact[text])[:5]
        assert [hit.similarity for hit in hits] == pytest.approx(sorted(exact.values())[:-6:-1], abs=0.02)
        least = hits[2].similarity
        assert len(await collection.search("query", 5, rescore=1000, min_similarity=least)) == 3
    assert all(hit.distance == distances[hit.record.id] for hit in hits)
    assert all(-1 <= hit.similarity <= 1 for hit in await collection.search(-query, 60))
    of_bits = await collection.search((query > 0).astype(np.uint8), 5)
    assert [hit.distance for hit in of_bits] == sorted(distances.values())[:5]


async def test_a_search_for_what_is_relevant_and_different(
    context: ExecutionContext, xtrace: XTraceIntegration
) -> None:
    collection = await Collection.open(xtrace, context, "different", embedding=Model(), vector_copy="float32")
    query = vector_of("query")
    await collection.upsert(
        [{"id": f"same {i}", "vector": query + vector_of(f"{i}") / 50, "metadata": {"n": i}} for i in range(5)]
        + [{"id": "other", "vector": query + vector_of("other"), "metadata": {"n": 9}}]
        + [{"id": "bits", "vector": (query > 0).astype(np.uint8), "metadata": {"n": 1}}]
    )
    nearest = [hit.record.id for hit in await collection.search("query", 7)]
    assert [hit.record.id for hit in await collection.search_mmr("query", 7, diversity=0)] == nearest
    one, two, *_ = hits = await collection.search_mmr(query, 3, diversity=0.8, where={"$id": {"$ne": "bits"}})
    assert [one.record.id, two.record.id] == [nearest[1], "other"]
    assert [hit.record.vector for hit in hits] == [None, None, None]
    (one, two) = await collection.search_mmr("query", 2, candidates=2, where={"n": {"$gt": 1}}, include_vectors=True)
    assert {one.record.id, two.record.id} < {"same 2", "same 3", "same 4"}
    assert cosine(one.record.vector, query) == pytest.approx(one.similarity)
    assert await collection.search_mmr("query", where={"n": 100}) == []
    assert "other" not in {hit.record.id for hit in await collection.search_mmr("query", min_similarity=0.99)}
    for wrong in (1.5, -0.1):
        with pytest.raises(InvalidArgument, match=r"diversity is .*, expected a number of at least 0, at most 1"):
            await collection.search_mmr("query", diversity=wrong)
    bare = Collection(xtrace, context, collection.kb_id, embedding=Model(), vector_copy=None)
    for refused in (bare.search_mmr("query"), collection.search_mmr((query > 0).astype(np.uint8))):
        with pytest.raises(InvalidArgument, match="relevance compares float vectors"):
            await refused


async def test_a_twin_shares_what_its_asynchronous_collection_has(
    collection: Collection, xtrace: XTraceIntegration
) -> None:
    twin = sync.Collection.of(collection)
    assert twin.asynchronous is collection
    assert sync.Collection.of(twin) is twin
    assert await asyncio.to_thread(twin.count) == await collection.count() == len(LETTERS)
    assert await asyncio.to_thread(lambda: sync.run(collection.count())) == len(LETTERS)
    # Twins have connections of their own, in the loop behind them.
    await asyncio.to_thread(sync.XTraceIntegration.of(xtrace).close)


async def test_a_model_that_gives_bits_alone_serves_too(xtrace: XTraceIntegration) -> None:
    collection = await Collection.open(xtrace, toy_context(), "bits", embedding=BitsModel())
    await collection.upsert([{"id": "a", "text": "a"}, {"id": "b", "text": "b"}])
    (hit,) = await collection.search("b", 1)
    assert (hit.record.id, hit.distance, hit.similarity) == ("b", 0, 1)


async def test_as_many_as_match_are_found_however_far_away_they_are(xtrace: XTraceIntegration) -> None:
    collection = await Collection.open(xtrace, toy_context(), "far", embedding=Model(), filterable=False)
    near, far = vector_of("near"), -vector_of("near")
    records = [{"id": f"n{i}", "vector": near, "metadata": {"far": False}} for i in range(700)]
    records += [{"id": f"f{i}", "vector": far, "metadata": {"far": True}} for i in range(12)]
    await collection.upsert(records)
    hits = await collection.search("near", 10, where={"far": True}, rescore=1)
    assert len(hits) == 10
    assert {round(hit.similarity, 3) for hit in hits} == {-1.0}
    assert len(await collection.search("near", 100, where={"far": True})) == 12


async def test_decoys_are_fetched_along(
    collection: Collection, xtrace: XTraceIntegration, monkeypatch: pytest.MonkeyPatch
) -> None:
    await collection.upsert([{"id": f"more {i}", "text": f"more {i}"} for i in range(30)])
    asked: list[int] = []
    get = xtrace.get_chunk_by_id

    async def watched(chunk_ids: Any, *arguments: Any, **named: Any) -> Any:
        asked.append(len(list(chunk_ids)))
        return await get(chunk_ids, *arguments, **named)

    monkeypatch.setattr(xtrace, "get_chunk_by_id", watched)
    (hit,) = await collection.search("The cat is asleep.", 1, rescore=1, decoys=9)
    assert (hit.record.id, asked) == ("cat", [10])


async def test_own_writes_never_make_a_search_fail(collection: Collection) -> None:
    async def write() -> None:
        for i in range(12):
            await collection.upsert([{"id": "cat", "text": f"The cat is asleep {i}."}])
            await collection.update("invoice", metadata={"n": i})

    async def search() -> None:
        while not writing.done():
            hits = await collection.search("The cat is asleep 5.", 3, rescore=1)
            assert len(hits) == 3

    writing = asyncio.create_task(write())
    await asyncio.gather(writing, search(), search())


# Beside others


async def test_namespaces_are_apart(
    collection: Collection, context: ExecutionContext, xtrace: XTraceIntegration
) -> None:
    other = await Collection.open(xtrace, context, "letters", embedding=Model(), namespace="other", filterable=["a"])
    assert (other.kb_id, other.namespace) == (collection.kb_id, "other")
    await other.upsert([{"id": "cat", "text": "Another cat.", "metadata": {"topic": "home"}}])
    assert (await other.get(["cat"]))[0].text == "Another cat."
    assert (await collection.get(["cat"]))[0].text == "The cat is asleep."
    assert await ids(other, {"topic": "home"}) == ["cat"]
    assert [hit.record.text for hit in await other.search("x", 10)] == ["Another cat."]
    assert await other.clear() == 1
    assert await collection.count() == len(LETTERS)


@UNDER_ANY_CONTEXT
async def test_the_classes_below_see_records_and_do_not_change_them(
    collection: Collection, context: ExecutionContext, xtrace: XTraceIntegration
) -> None:
    found = await Retriever(context, xtrace).search(vector_of("The cat is asleep."), 1, collection.kb_id)
    assert [(one.text, one.distance) for one in found] == [("The cat is asleep.", 0)]
    if context.private_metadata:
        with pytest.raises(InvalidMetaData, match=r"record of a collection: Collection\.update"):
            await DataLoader(context, xtrace).patch_chunks_by_meta({}, {"tag1": "x"}, collection.kb_id)
    assert (await verify(context, xtrace, collection.kb_id)).bad == ()


@UNDER_ANY_CONTEXT
async def test_records_move_with_a_rotation_and_can_be_used_all_the_while(
    collection: Collection, context: ExecutionContext, xtrace: XTraceIntegration
) -> None:
    provider = PassphraseKeyProvider("another passphrase", insecure_log2_n=1)
    new = context.successor(provider, "paillier_lookup", 256, insecure_allow_weak_parameters=True)
    await new.save_to_remote(xtrace)
    moving = Collection(xtrace, new, collection.kb_id, embedding=Model())
    assert sorted(await ids(moving)) == sorted(IDS)
    assert await ids(moving, {"topic": "home"}) == ["cat"]
    assert (await moving.search("The cat is asleep.", 1))[0].record.id == "cat"
    await moving.update("cat", metadata={"topic": "pets"})
    written = await moving.upsert([{"id": "invoice", "text": "Paid."}, {"id": "new", "text": "New."}])
    assert (written.inserted, written.replaced) == (("new",), ("invoice",))
    assert (await moving.upsert([{"id": "merger"}], on_conflict="skip")).skipped == ("merger",)
    with pytest.raises(RecordsExist):
        await moving.upsert([{"id": "merger"}], on_conflict="fail")
    assert sorted(await ids(moving)) == sorted([*IDS, "new"])
    assert await moving.count() == len(IDS) + 1
    await rotate(new, xtrace, [collection.kb_id])
    done = Collection(xtrace, new, collection.kb_id, embedding=Model())
    assert (await done.get(["cat", "invoice"])) == [
        Record("cat", "The cat is asleep.", {"topic": "pets"}),
        Record("invoice", "Paid."),
    ]
    assert await ids(done, {"topic": "legal"}) == ["merger"]
    assert (await done.search("The cat is asleep.", 1))[0].record.id == "cat"
    assert await done.delete(where={"topic": {"$exists": True}}) == 2
    assert (await verify(new, xtrace, collection.kb_id)).bad == ()


async def test_a_copy_of_the_knowledge_base_is_a_collection_too(
    collection: Collection, context: ExecutionContext, xtrace: XTraceIntegration
) -> None:
    target = (await xtrace.create_kb("copy")).id
    summary = await copy_knowledge_base(xtrace, collection.kb_id, xtrace, target, context)
    assert (summary.copied, summary.bad_ids) == (len(LETTERS) + 1, [])
    copied = Collection(xtrace, context, target, embedding=Model())
    assert [one.id for one in await copied.get(IDS)] == IDS
    assert await ids(copied, {"year": {"$in": [2025]}}) == ["cat"]
    assert (await copied.upsert([{"id": "cat"}])).replaced == ("cat",)
    assert await copied.count() == len(LETTERS)
    assert (await collection.get(["cat"]))[0].text == "The cat is asleep."


async def test_a_key_that_only_reads_opens_and_reads(
    collection: Collection, context: ExecutionContext, xtrace: XTraceIntegration, credentials: Credentials
) -> None:
    created = await xtrace.create_api_key("reader")
    await xtrace.set_key_permission(created.api_key.hash, collection.kb_id, 1)
    async with XTraceIntegration(credentials.org_id, created.secret_key, api_url=credentials.api_url) as plain:
        reading = await Collection.open(plain, context, collection.kb_id, embedding=Model())
        assert await ids(reading, {"topic": "home"}) == ["cat"]
        assert [one.id for one in await reading.get(["note"])] == ["note"]
        assert (await reading.search("The cat is asleep.", 1))[0].record.id == "cat"
        with pytest.raises(PermissionDenied):
            await reading.upsert([{"id": "x"}])
        with pytest.raises(PermissionDenied):
            await reading.clear()


def test_the_synchronous_twin_takes_a_synchronous_model(credentials: Credentials) -> None:
    class Plain:
        def embed_many(self, texts: Sequence[str]) -> NDArray[np.float32]:
            return np.array([vector_of(text) for text in texts])

        def bin_embed_many(self, texts: Sequence[str]) -> NDArray[np.uint8]:
            return float_to_bits(self.embed_many(texts))

    one = credentials
    with sync.XTraceIntegration(one.org_id, one.api_key, one.admin_key, one.api_url) as xtrace:
        letters = sync.Collection.open(xtrace, toy_context(), "letters", embedding=Plain())
        assert letters.upsert(LETTERS).count == len(LETTERS)
        assert [record.id for record in letters.iter(order_by="year")] == ["cat", "invoice", "note", "merger"]
        (hit,) = letters.search("The cat is asleep.", 1)
        assert (hit.record.id, round(hit.similarity, 3)) == ("cat", 1)
        assert letters.update("cat", text="The cat purrs.").text == "The cat purrs."
        assert (letters.kb_id, repr(letters)) == (xtrace.list_kbs()[0].id, "<Collection>")


async def test_a_context_that_another_client_saved_serves_too(xtrace: XTraceIntegration, tmp_path: Path) -> None:
    path = tmp_path / "exec_context"
    path.write_text(json.dumps(ExistingClientKey(512, DIM).context()))
    theirs = ExecutionContext.load_from_disk(PASSPHRASE, path, insecure_allow_weak_encryption=True)
    collection = await Collection.open(xtrace, theirs, "theirs", embedding=Model())
    await collection.upsert(LETTERS)
    await collection.update("cat", metadata={"topic": "pets"})
    assert await ids(collection, {"topic": "pets"}) == ["cat"]
    assert (await collection.search("The cat is asleep.", 1))[0].record == Record(
        "cat", "The cat is asleep.", {"topic": "pets"}
    )
    assert await collection.delete(where={"year": 2026}) == 2
