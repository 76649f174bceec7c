"""Searching a collection in the local index: the same answers, fresh, and nothing told to the service."""

import asyncio
import json
import math
import random
import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from support.collecting import DIM, BitsModel, Model, cosine, toy_context, vector_of
from support.hostile_table import noticed
from support.schemes import SCHEMES
from support.watched import Watched
from xtrace_sdk import Collection, PassphraseKeyProvider, sync
from xtrace_sdk.errors import (
    ChangedSinceSearch,
    ContentTampered,
    InaccessibleFile,
    InvalidArgument,
    OtherModel,
    ServerUnreachable,
    ServiceRolledBack,
)
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.stages import measured_stages
from xtrace_sdk.x_vec.inference.model import EmbeddingModel
from xtrace_sdk.x_vec.local.local_index import LocalIndex
from xtrace_sdk.x_vec.upkeep.rotation import rotate
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
from xtrace_server.credentials import Credentials

TEXTS = {f"r{number}": f"Invoice {4000 + number} for consulting" for number in range(40)}


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest.fixture
async def xtrace(credentials: Credentials, watched: Watched) -> Any:
    async with XTraceIntegration(
        credentials.org_id, credentials.api_key, credentials.admin_key, credentials.api_url, transport=watched
    ) as integration:
        yield integration


@pytest.fixture(scope="module")
def context() -> ExecutionContext:
    return toy_context()


@pytest.fixture
async def filled(context: ExecutionContext, xtrace: XTraceIntegration) -> Collection:
    """A collection without an index."""
    opened = await Collection.open(xtrace, context, "letters", embedding=Model())
    await opened.upsert(
        {"id": one, "text": text, "metadata": {"n": i, "even": i % 2 == 0}}
        for i, (one, text) in enumerate(TEXTS.items())
    )
    return opened


@pytest.fixture
def local(filled: Collection, context: ExecutionContext, xtrace: XTraceIntegration, tmp_path: Path) -> Collection:
    return with_index(filled, context, xtrace, tmp_path)


def with_index(
    filled: Collection,
    context: ExecutionContext,
    xtrace: XTraceIntegration,
    folder: Path,
    kind: Any = "auto",
    **more: Any,
) -> Collection:
    return Collection(
        xtrace, context, filled.kb_id, embedding=Model(), local_index=kind, local_folder=folder / "local", **more
    )


async def found(collection: Collection, query: Any, k: int = 5, **more: Any) -> list[str]:
    return [hit.record.id for hit in await collection.search(query, k, **more)]


def nearest(query: Any, ids: Sequence[str], k: int) -> list[str]:
    """The plain reference: exact cosines of all texts."""
    return sorted(ids, key=lambda one: -cosine(query, vector_of(TEXTS[one])))[:k]


@pytest.mark.parametrize("kind", ["auto", "codes", "replica"])
@pytest.mark.parametrize("scheme", SCHEMES)
async def test_the_index_finds_what_the_service_finds(
    scheme: str, kind: str, xtrace: XTraceIntegration, tmp_path: Path
) -> None:
    context = toy_context(scheme=scheme)
    filled = await Collection.open(xtrace, context, scheme, embedding=Model())
    await filled.upsert({"id": one, "text": text, "metadata": {"n": i}} for i, (one, text) in enumerate(TEXTS.items()))
    local = with_index(filled, context, xtrace, tmp_path, kind)
    for where, inside in ((None, range(40)), ({"n": {"$gte": 10}}, range(10, 40)), ({"n": {"$in": [3, 5]}}, (3, 5))):
        for query in (vector_of("a"), vector_of("b")):
            expected = nearest(query, [f"r{number}" for number in inside], 5)
            assert await found(local, query, rescore=8, where=where, mode="local") == expected
            assert await found(local, query, rescore=8, where=where, mode="service") == expected
    (hit,) = await local.search(vector_of(TEXTS["r7"]), 1, include_vectors=True)
    assert hit.similarity > 0.999
    assert hit.distance <= 2
    assert (hit.record.id, hit.record.text, hit.record.metadata) == ("r7", TEXTS["r7"], {"n": 7})
    assert cosine(hit.record.vector, vector_of(TEXTS["r7"])) > 0.999
    assert hit.record.created_at is not None


async def test_every_change_is_found_by_the_next_search(local: Collection) -> None:
    question = vector_of("A new text.")
    assert (await local.search(question, 1))[0].similarity < 0.99
    await local.upsert([{"id": "new", "text": "A new text."}])
    assert await found(local, question, 1) == ["new"]
    await local.update("new", text="Another text.")
    assert (await local.search(question, 1))[0].similarity < 0.99
    assert (await local.search(vector_of("Another text."), 1))[0].record.text == "Another text."
    await local.update("new", metadata={"n": 99})
    assert await found(local, question, where={"n": 99}) == ["new"]
    await local.upsert([{"id": "new", "text": "A new text."}])
    assert await found(local, question, 1) == ["new"]
    assert await local.delete(["new"]) == 1
    assert "new" not in await found(local, question, 40)
    assert await local.delete(where={"even": True}) == 20
    assert len(await found(local, question, 40)) == 20
    await local.clear()
    assert await found(local, question, 40) == []


async def test_random_changes_by_two_clients_leave_what_is_stored(
    local: Collection, filled: Collection, context: ExecutionContext, xtrace: XTraceIntegration, tmp_path: Path
) -> None:
    chance, stored = random.Random(7), dict(TEXTS)
    twin = with_index(filled, context, xtrace, tmp_path)  # another process with the same folder
    other = with_index(filled, context, xtrace, tmp_path / "other", "codes")
    for number in range(30):
        ids = chance.sample([*stored, f"new{number}", f"more{number}"], 3)
        match chance.randrange(4):
            case 0:
                await filled.delete(ids)
                for one in ids:
                    stored.pop(one, None)
            case 1 if ids[0] in stored:
                stored[ids[0]] = f"text {number}"
                await filled.update(ids[0], text=stored[ids[0]])
            case _:
                stored |= {one: f"{one} {number}" for one in ids}
                await filled.upsert({"id": one, "text": stored[one]} for one in ids)
        searched = chance.choice([local, twin, other])
        hits = await searched.search(vector_of("q"), 200, hybrid=False)
        assert {hit.record.id: hit.record.text for hit in hits} == stored
        assert [hit.similarity for hit in hits] == sorted((hit.similarity for hit in hits), reverse=True)


async def test_an_exact_number_is_found_by_words(local: Collection) -> None:
    # The model knows nothing of numbers: its vectors are random.
    for number in (4000, 4017, 4039):
        assert (await found(local, f"invoice {number}"))[0] == f"r{number - 4000}"
    assert (await found(local, "invoice 4017", 1, where={"even": True})) != ["r17"]
    by_vector = await found(local, "invoice 4017", 5, hybrid=False)
    assert by_vector == nearest(vector_of("invoice 4017"), list(TEXTS), 5)
    assert await found(local, "invoice 4017", 5, rescore=8, mode="service") == by_vector


# What the service sees


async def test_a_search_sends_the_same_whatever_it_asks(local: Collection, watched: Watched) -> None:
    await local.search("the first fetches all", 1)
    watched.taken()
    sent = []
    for query, where in (
        ("invoice 4017", None),
        ("something else", {"n": {"$gt": 3}}),
        (vector_of("c"), {"even": True}),
    ):
        await local.search(query, 3, where=where)
        sent.append(watched.taken())
    assert sent[0] == sent[1] == sent[2]
    ((path, body),) = sent[0]
    assert path.startswith("POST local/changes")
    assert set(json.loads(body)) == {"kb_id", "context_id", "since", "after", "limit"}


async def test_codes_fetch_contents_once_in_the_order_of_their_ids(
    filled: Collection, context: ExecutionContext, xtrace: XTraceIntegration, watched: Watched, tmp_path: Path
) -> None:
    local = with_index(filled, context, xtrace, tmp_path, "codes")
    await local.search(vector_of("a"), 2, rescore=2)
    watched.taken()
    await local.search(vector_of("b"), 3, rescore=2)
    changes, fetch = (path for path, _ in watched.taken())
    assert changes.startswith("POST local/changes")
    ids = [int(part.partition("=")[2]) for part in fetch.partition("?")[2].split("&") if part.startswith("chunk_ids")]
    assert ids == sorted(ids)
    await local.search(vector_of("b"), 3, rescore=2)
    assert len(watched.taken()) == 1


async def test_decoys_are_fetched_along(
    filled: Collection, context: ExecutionContext, xtrace: XTraceIntegration, watched: Watched, tmp_path: Path
) -> None:
    local = with_index(filled, context, xtrace, tmp_path, "codes")
    await local.search(vector_of("a"), 1, rescore=1)
    watched.taken()
    await local.search(vector_of("b"), 1, rescore=1, decoys=9)
    fetch = watched.taken()[1][0]
    assert fetch.count("chunk_ids=") >= 10


async def test_decoys_outlast_the_program_and_the_index(
    filled: Collection, context: ExecutionContext, xtrace: XTraceIntegration, watched: Watched, tmp_path: Path
) -> None:
    async def fetched(collection: Collection, mode: Any) -> set[str]:
        watched.taken()
        await collection.search(vector_of(TEXTS["r5"]), 1, rescore=1, decoys=9, mode=mode)
        (path,) = (
            path for path, _ in watched.taken() if path.startswith("GET chunk") and path.count("chunk_ids=") < 30
        )
        return {part for part in path.partition("?")[2].split("&") if part.startswith("chunk_ids")}

    first = await fetched(with_index(filled, context, xtrace, tmp_path, "codes"), "local")
    assert len(first) >= 10
    await with_index(filled, context, xtrace, tmp_path, "codes").clear_local_index()
    assert await fetched(with_index(filled, context, xtrace, tmp_path, "codes"), "local") == first
    assert await fetched(with_index(filled, context, xtrace, tmp_path, "codes"), "service") == first
    (kept,) = (tmp_path / "local").glob("*.decoys")
    kept.write_bytes(b"damaged")
    with pytest.raises(InaccessibleFile, match="the groups of decoys"):
        await fetched(with_index(filled, context, xtrace, tmp_path, "codes"), "service")


async def test_a_small_index_is_begun_only_where_there_are_few_chunks(
    filled: Collection,
    context: ExecutionContext,
    xtrace: XTraceIntegration,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("xtrace_sdk.x_vec.local.local_index.REPLICA_CHUNKS", 30)
    large = with_index(filled, context, xtrace, tmp_path, "small")
    assert (await large.search(vector_of("a"))).mode == "service"
    assert (await large.search(vector_of("a"), mode="local")).mode == "local"
    assert (await with_index(filled, context, xtrace, tmp_path, "small").search(vector_of("a"))).mode == "local"
    monkeypatch.setattr("xtrace_sdk.x_vec.local.local_index.REPLICA_CHUNKS", 100)
    few = with_index(filled, context, xtrace, tmp_path / "few", "small")
    assert (await few.search(vector_of("a"))).mode == "local"


async def test_a_small_index_that_cannot_be_kept_is_done_without(
    filled: Collection, context: ExecutionContext, xtrace: XTraceIntegration, tmp_path: Path
) -> None:
    (tmp_path / "local").write_text("no folder")
    local = with_index(filled, context, xtrace, tmp_path, "small")
    assert (await local.search("a")).mode == "service"
    with pytest.raises(InaccessibleFile):
        await local.search("a", mode="local")


async def test_a_replica_works_offline(local: Collection, watched: Watched) -> None:
    expected = await found(local, "invoice 4017", max_staleness=math.inf)
    watched.is_cut = True
    assert await found(local, "invoice 4017", max_staleness=math.inf) == expected
    assert await found(local, "invoice 4017", max_staleness=3600) == expected
    with pytest.raises(ServerUnreachable):
        await local.search("invoice 4017")


async def test_a_stale_index_is_used_as_long_as_asked_for(
    local: Collection, filled: Collection, watched: Watched
) -> None:
    await local.search(vector_of("a"))
    await filled.upsert([{"id": "new", "text": "new"}])
    watched.taken()
    assert "new" not in await found(local, vector_of("new"), max_staleness=3600)
    assert watched.taken() == []
    assert (await found(local, vector_of("new")))[0] == "new"


# Which way


async def test_the_mode_decides(local: Collection, filled: Collection, watched: Watched) -> None:
    for collection, mode, expected in (
        (local, "auto", "local/changes"),
        (local, "service", "compute_hamming"),
        (filled, "auto", "compute_hamming"),
    ):
        watched.taken()
        await collection.search("a", mode=mode)  # type: ignore[arg-type]
        assert any(expected in path for path, _ in watched.taken())
    with pytest.raises(InvalidArgument, match="local_index"):
        await filled.search("a", mode="local")
    with pytest.raises(InvalidArgument, match="hybrid=True"):
        await filled.search("a", hybrid=True)
    with pytest.raises(InvalidArgument, match="max_staleness"):
        await local.search("a", max_staleness=-1)
    with pytest.raises(InvalidArgument, match="local_index is a str, expected one of"):
        Collection(filled._store._xtrace, filled._context, filled.kb_id, local_index="all")  # type: ignore[arg-type]


async def test_bits_are_compared_on_the_service(local: Collection, watched: Watched) -> None:
    bits = await BitsModel().bin_embed_many(["a"])
    await local.search(bits[0], 3)
    assert any("compute_hamming" in path for path, _ in watched.taken())
    with pytest.raises(InvalidArgument, match="float vectors"):
        await local.search(bits[0], 3, mode="local")


async def test_a_vector_without_a_copy_sends_searches_to_the_service(local: Collection, watched: Watched) -> None:
    bits = await BitsModel().bin_embed_many(["only bits"])
    await local.upsert([{"id": "bits", "text": "only bits", "vector": bits[0], "metadata": {"n": -1}}])
    watched.taken()
    assert "bits" in await found(local, vector_of("only bits"))
    assert any("compute_hamming" in path for path, _ in watched.taken())
    assert await found(local, vector_of("a"), where={"n": 3}) == ["r3"]  # that record cannot match
    assert not any("compute_hamming" in path for path, _ in watched.taken())


async def test_conditions_on_texts_are_decided_on_contents(local: Collection) -> None:
    where = {"$text": {"$contains": "4033"}}
    assert await found(local, vector_of("far from it"), 1, where=where, rescore=1, mode="local") == ["r33"]
    assert await found(local, vector_of("a"), 3, where={"$id": {"$in": ["r1", "r2"]}}, mode="local") in (
        ["r1", "r2"],
        ["r2", "r1"],
    )


async def test_records_without_a_vector_and_other_namespaces_stay_out(
    filled: Collection, context: ExecutionContext, xtrace: XTraceIntegration, tmp_path: Path
) -> None:
    await filled.upsert([{"id": "words only", "text": "Invoice 4017", "vector": []}])
    other = Collection(xtrace, context, filled.kb_id, embedding=Model(), namespace="other")
    await other.upsert([{"id": "foreign", "text": "Invoice 4017"}])
    local = with_index(filled, context, xtrace, tmp_path)
    assert set(await found(local, "invoice 4017", 100)) == set(TEXTS)
    there = with_index(filled, context, xtrace, tmp_path, namespace="other")
    assert await found(there, "invoice 4017", 100) == ["foreign"]


async def test_different_results_in_the_index(local: Collection) -> None:
    hits = await local.search_mmr("invoice 4017", 3, mode="local", max_staleness=10)
    assert len({hit.record.id for hit in hits}) == 3


async def test_results_tell_how_they_were_found(local: Collection, filled: Collection) -> None:
    with measured_stages() as seconds:
        found = await local.search("a")
    assert list(seconds) == list(found.seconds) == ["embed", "synchronise", "scan", "fetch", "rescore"]
    assert found.mode == "local"
    on_service = await filled.search("a")
    assert on_service.mode == "service"
    assert list(on_service.seconds) == ["embed", "encrypt", "search", "fetch", "decrypt", "rescore"]


async def test_another_model_is_noticed_without_asking_the_service(
    xtrace: XTraceIntegration, watched: Watched, tmp_path: Path
) -> None:
    class Named(Model):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.model = EmbeddingModel("tests", name, DIM)

    context = toy_context()
    filled = await Collection.open(xtrace, context, "of a model", embedding=Named("one"))
    await filled.upsert([{"id": "a", "text": "a"}])
    right, wrong = (
        Collection(
            xtrace, context, filled.kb_id, embedding=Named(name), local_index="auto", local_folder=tmp_path / "local"
        )
        for name in ("one", "other")
    )
    assert await found(right, "a") == ["a"]
    watched.is_cut = True
    assert await found(right, "a", max_staleness=math.inf) == ["a"]
    with pytest.raises(OtherModel, match="the collection was created with tests/one"):
        await wrong.search("a", max_staleness=math.inf)


async def test_a_filter_on_texts_and_metadata_reads_only_what_metadata_allows(
    filled: Collection, context: ExecutionContext, xtrace: XTraceIntegration, watched: Watched, tmp_path: Path
) -> None:
    local = with_index(filled, context, xtrace, tmp_path, "codes")
    where = {"n": {"$lt": 3}, "$text": {"$contains": "4002"}}
    assert await found(local, vector_of("a"), 1, where=where, rescore=1) == ["r2"]
    fetched = [path for path, _ in watched.taken() if path.startswith("GET chunk")][1:]  # after synchronising
    assert sum(path.count("chunk_ids=") for path in fetched) == 3


# The folder


async def test_a_second_start_fetches_nothing(
    local: Collection,
    filled: Collection,
    context: ExecutionContext,
    xtrace: XTraceIntegration,
    watched: Watched,
    tmp_path: Path,
) -> None:
    expected = await found(local, "invoice 4017")
    watched.taken()
    assert await found(with_index(filled, context, xtrace, tmp_path), "invoice 4017") == expected
    ((path, _),) = watched.taken()
    assert path.startswith("POST local/changes")


async def test_the_folder_shows_no_text(local: Collection, tmp_path: Path) -> None:
    await local.search("a")
    await local.search("b")
    stored = b"".join(path.read_bytes() for path in (tmp_path / "local").iterdir())
    assert len(stored) > 5000
    for mark in (b"Invoice", b"consulting", b"4017", b"even", local.kb_id.encode()):
        assert mark not in stored


async def test_a_damaged_file_is_built_again(local: Collection, tmp_path: Path) -> None:
    expected = await found(local, "invoice 4017")
    assert local.local_index_path is not None
    with sqlite3.connect(local.local_index_path) as connection:
        connection.execute("UPDATE state SET sealed = x'00'")
    assert await found(local, "invoice 4017") == expected


async def test_damaged_contents_are_fetched_again(local: Collection) -> None:
    expected = await found(local, "invoice 4017")
    assert local.local_index_path is not None
    with sqlite3.connect(local.local_index_path) as connection:
        connection.execute("UPDATE content SET sealed = x'00'")
    assert await found(local, "invoice 4017") == expected


async def test_a_folder_that_cannot_be_used_is_one_sentence(
    filled: Collection, context: ExecutionContext, xtrace: XTraceIntegration, tmp_path: Path
) -> None:
    (tmp_path / "local").write_text("no folder")
    local = with_index(filled, context, xtrace, tmp_path)
    with pytest.raises(InaccessibleFile, match='local_folder, or search with mode="service"'):
        await local.search("a")
    assert len(await found(local, "a", mode="service")) == 5


async def test_a_clear_removes_the_file(local: Collection, tmp_path: Path) -> None:
    await local.search("a")
    assert local.local_index_path is not None
    assert local.local_index_path.exists()
    await local.clear_local_index()
    assert list((tmp_path / "local").iterdir()) == []
    assert len(await found(local, "invoice 4017")) == 5


async def test_contents_are_dropped_where_the_folder_would_get_too_large(
    filled: Collection, context: ExecutionContext, xtrace: XTraceIntegration, watched: Watched, tmp_path: Path
) -> None:
    (tmp_path / "local").mkdir()
    old = tmp_path / "local" / "other.sqlite3"
    old.write_bytes(bytes(1 << 20))
    local = with_index(filled, context, xtrace, tmp_path, "replica", local_bytes=4096)
    await local.search(vector_of("a"), 1, rescore=1)
    assert not old.exists()
    watched.taken()
    await local.search(vector_of("b"), 1, rescore=1)
    assert len(watched.taken()) == 2  # its content is fetched again


async def test_large_collections_keep_codes_alone(
    filled: Collection,
    context: ExecutionContext,
    xtrace: XTraceIntegration,
    watched: Watched,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("xtrace_sdk.x_vec.local.local_index.REPLICA_CHUNKS", 30)
    monkeypatch.setattr("xtrace_sdk.x_vec.local.synchronising.CHUNKS_AT_ONCE", 8)  # contents are kept at first
    local = with_index(filled, context, xtrace, tmp_path)
    await local.search(vector_of("a"), 1, rescore=1)
    watched.taken()
    await local.search(vector_of("b"), 1, rescore=1)
    assert len(watched.taken()) == 2


async def test_an_index_that_differs_from_the_service_is_noticed(local: Collection, filled: Collection) -> None:
    found = await local.verify_local_index()
    assert (found.chunks, found.contents, found.is_good) == (41, 41, True)  # one is the collection's own
    await filled.delete(["r3"])
    assert (await local.verify_local_index()).chunks == 40
    assert local._local is not None
    index, cut = local._local.index, await local._local.index.synchronised()
    with index._opened().changing(cut.state.generation):  # as if the service had left out changes
        (entry,) = cut.state.segments
        alive = entry.alive()
        lacking, surplus = np.flatnonzero(alive)[0], np.flatnonzero(~alive)[0]
        alive[lacking], alive[surplus] = False, True
        kept = index._opened().contents([2, 3])
        index._opened().keep_contents({2: kept[3]})
        state = replace(cut.state, generation=cut.state.generation + 1, segments=[entry.with_alive(alive)])
        index._opened().write_state(state)
    chunk_ids = cut.parts[0].segment.chunk_ids
    found = await local.verify_local_index()
    assert found.missing == (chunk_ids[lacking],)
    assert found.surplus == (chunk_ids[surplus],)
    assert found.wrong == (2,)
    assert not found.is_good
    with pytest.raises(InvalidArgument, match="no local index is kept to verify"):
        await filled.verify_local_index()


# Faults and attacks


noticed(
    "goes back to an earlier state of a knowledge base than a [local index](local-index.md) has seen", ServiceRolledBack
)


async def test_a_service_that_goes_back_is_noticed(
    local: Collection, filled: Collection, context: ExecutionContext, xtrace: XTraceIntegration, tmp_path: Path
) -> None:
    await local.search("a")
    ahead = LocalIndex(xtrace, context, filled.kb_id, folder=tmp_path / "local")
    state = (await ahead.synchronised()).state
    with ahead._opened().changing(state.generation):
        state.revisions[context.id] += 1
        ahead._opened().write_state(state)
    ahead.close()
    with pytest.raises(ServiceRolledBack, match="xtrace local clear"):
        await with_index(filled, context, xtrace, tmp_path).search("a")


async def test_an_interrupted_synchronisation_goes_on(
    local: Collection, watched: Watched, monkeypatch: pytest.MonkeyPatch, xtrace: XTraceIntegration
) -> None:
    original = type(xtrace).local_changes

    async def cut_once(self: XTraceIntegration, kb_id: str, context_id: str, since: int, after: int, limit: int) -> Any:
        if after:
            watched.is_cut = len(cut) < 1
            cut.append(after)
        return await original(self, kb_id, context_id, since, after, limit)

    cut: list[int] = []
    monkeypatch.setattr("xtrace_sdk.x_vec.local.synchronising.CHUNKS_AT_ONCE", 10)
    monkeypatch.setattr(type(xtrace), "local_changes", cut_once)
    with pytest.raises(ServerUnreachable):
        await local.search("a")
    watched.is_cut = False
    watched.taken()
    assert await found(local, "invoice 4017", 40) != []
    assert len(await found(local, vector_of("a"), 100)) == 40
    fetched = [path for path, _ in watched.taken() if path.startswith("GET chunk")]
    assert sum(path.count("chunk_ids=") for path in fetched) == 31  # ten of 41 were there, one is the collection's own


async def test_a_foreign_content_is_refused(
    local: Collection, xtrace: XTraceIntegration, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = type(xtrace).get_chunk_by_id

    async def exchanged(self: XTraceIntegration, *arguments: Any) -> Any:
        chunks = await original(self, *arguments)
        chunks[1]["chunk_content"] = chunks[2]["chunk_content"]
        return chunks

    monkeypatch.setattr(type(xtrace), "get_chunk_by_id", exchanged)
    with pytest.raises(ContentTampered):
        await local.search("a")


noticed("gives another chunk than the one that a local index knows under its id", ChangedSinceSearch)


async def test_a_chunk_that_is_not_the_indexed_one_is_refused(
    filled: Collection,
    context: ExecutionContext,
    xtrace: XTraceIntegration,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    local = with_index(filled, context, xtrace, tmp_path, "codes")
    await local.search(vector_of("a"), 1, rescore=1)
    original = type(xtrace).get_chunk_by_id

    async def exchanged(self: XTraceIntegration, ids: Any, *arguments: Any) -> Any:
        # Both are authentic: the service exchanges whole chunks.
        chunks = await original(self, [one + 1 for one in ids], *arguments)
        return [{**chunk, "chunk_id": one} for chunk, one in zip(chunks, ids, strict=True)]

    monkeypatch.setattr(type(xtrace), "get_chunk_by_id", exchanged)
    with pytest.raises(ChangedSinceSearch):
        await local.search(vector_of(TEXTS["r20"]), 1, rescore=1)


async def test_a_chunk_that_changed_since_the_index_is_looked_for_again(
    filled: Collection, context: ExecutionContext, xtrace: XTraceIntegration, tmp_path: Path
) -> None:
    local = with_index(filled, context, xtrace, tmp_path, "codes")
    await local.search(vector_of("a"), 1, rescore=1)
    await filled.update("r20", text="Changed.")
    hits = await local.search(vector_of(TEXTS["r20"]), 1, rescore=1, max_staleness=math.inf)
    assert hits[0].record.id != "r20"
    await filled.delete(["r21"])
    assert await found(local, vector_of(TEXTS["r21"]), 1, rescore=1, max_staleness=math.inf) != ["r21"]


# Keys


async def test_a_rotation_begins_another_index(
    filled: Collection, context: ExecutionContext, xtrace: XTraceIntegration, tmp_path: Path
) -> None:
    provider = PassphraseKeyProvider("another passphrase", insecure_log2_n=1)
    new = context.successor(provider, "paillier_lookup", 256, insecure_allow_weak_parameters=True)
    await new.save_to_remote(xtrace)
    moving = with_index(filled, new, xtrace, tmp_path)
    assert len(await found(moving, vector_of("a"), 100)) == 40
    await moving.upsert([{"id": "r3", "text": "Moved."}, {"id": "new", "text": "New."}])
    await moving.delete(["r4"])
    expected = (set(TEXTS) | {"new"}) - {"r4"}
    assert set(await found(moving, vector_of("a"), 100)) == expected
    assert await found(moving, vector_of("Moved."), 1) == ["r3"]
    await rotate(new, xtrace, [filled.kb_id])
    done = with_index(filled, new, xtrace, tmp_path)
    assert set(await found(done, vector_of("a"), 100)) == expected
    assert with_index(filled, context, xtrace, tmp_path).local_index_path != done.local_index_path


async def test_another_context_has_another_index(
    local: Collection, filled: Collection, xtrace: XTraceIntegration, tmp_path: Path
) -> None:
    await local.search("a")
    other = with_index(filled, toy_context(), xtrace, tmp_path)
    assert await found(other, "a") == []
    assert local.local_index_path is not None
    assert other.local_index_path is not None
    shutil.copy(local.local_index_path, other.local_index_path)  # a file under another key is built again
    assert await found(other, "a") == []


# Alongside


async def test_searches_at_once_share_one_synchronisation(
    local: Collection, filled: Collection, watched: Watched
) -> None:
    answers = await asyncio.gather(*(local.search(vector_of(f"q{number}"), 3) for number in range(8)))
    assert all(len(hits) == 3 for hits in answers)
    assert sum(path.startswith("GET chunk") for path, _ in watched.taken()) == 1


async def test_two_folders_of_one_path_never_lose_a_row(
    filled: Collection, context: ExecutionContext, xtrace: XTraceIntegration, tmp_path: Path
) -> None:
    both = [with_index(filled, context, xtrace, tmp_path) for _ in range(3)]
    for number in range(5):
        await filled.upsert([{"id": f"new{number}", "text": f"new {number}"}])
        answers = await asyncio.gather(*(found(one, vector_of(f"new {number}"), 100) for one in both))
        assert all(answer[0] == f"new{number}" and len(answer) == 41 + number for answer in answers)


def test_the_synchronous_twin(credentials: Credentials, tmp_path: Path) -> None:
    context = toy_context()
    with sync.XTraceIntegration(
        credentials.org_id, credentials.api_key, credentials.admin_key, credentials.api_url
    ) as xtrace:
        local = sync.Collection.open(xtrace, context, "twin", local_index="replica", local_folder=tmp_path)
        texts = {"a": "Invoice 4017", "b": "Invoice 4018"}
        local.upsert({"id": one, "text": text, "vector": vector_of(text)} for one, text in texts.items())
        assert [hit.record.id for hit in local.search(vector_of("Invoice 4018"), 2, mode="local")] == ["b", "a"]
