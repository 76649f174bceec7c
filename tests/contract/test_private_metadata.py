"""Private metadata against the real server: it has hashes, the client values, and neither is exchanged unnoticed."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from support.existing_client import fixture
from support.reference_filter import matches
from support.service import Http, ok
from xtrace_sdk.errors import (
    ChunksChanged,
    ChunksNotFound,
    ContentTampered,
    InvalidArgument,
    InvalidFilter,
    InvalidMetaData,
    NotOnPrivateField,
    PartlyStored,
)
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.chunks.envelope import Content, pack, unpack
from xtrace_sdk.x_vec.chunks.private_metadata import PrivateMetaData
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.data_loaders import patching
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.retrievers.retriever import Retriever
from xtrace_sdk.x_vec.upkeep.rotation import rotate
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
from xtrace_server.credentials import Credentials

DIM = 16
COUNT = 12

FILTERS: list[dict[str, Any]] = [
    {},
    {"tag1": "user 1"},
    {"tag1": {"$ne": "user 1"}},
    {"tag1": {"$in": ["user 0", "nobody", ""]}},
    {"tag1": {"$nin": ["user 0", ""]}},
    {"tag1": {"$exists": False}},
    {"facets": "even"},
    {"facets": {"$subset": ["even", "third"]}},
    {"facets": {"$any": ["odd", "third"]}},
    {"facets": {"$none": ["third"]}},
    {"facets": {"$size": 2}},
    {"facets": {"$exists": False}, "tag2": {"$begins_with": "pro"}},
    {"$or": [{"tag1": "user 2"}, {"$not": {"facets": "even"}}], "tag2": {"$gte": "project 1"}},
]
"""With `tag1` and `facets` private all can be answered; of `tag2` some look into the values."""


def new_context(private_metadata: PrivateMetaData = ("tag1", "facets")) -> ExecutionContext:
    return ExecutionContext.create(
        provider(),
        "paillier_lookup",
        DIM,
        256,
        private_metadata=private_metadata,
        insecure_allow_weak_parameters=True,
    )


def provider() -> PassphraseKeyProvider:
    return PassphraseKeyProvider("passphrase", insecure_log2_n=1)


def meta_data(i: int) -> dict[str, Any]:
    facets = (["even"] if i % 2 == 0 else []) + (["third"] if i % 3 == 0 else [])
    return {"tag2": f"project {i % 4}"} | ({"facets": facets} if facets else {}) | TAG1[i % 5]


TAG1: list[dict[str, str]] = [{"tag1": "user 0"}, {"tag1": "user 1"}, {"tag1": "user 2"}, {"tag1": ""}, {}]


def collection(count: int = COUNT) -> list[dict[str, Any]]:
    return [{"chunk_content": f"text {i}", "meta_data": meta_data(i)} for i in range(count)]


def vectors(count: int = COUNT) -> NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 2, (count, DIM), dtype=np.uint8)


class Disturbed(XTraceIntegration):
    """An integration that does something of the test's each time before chunks are patched."""

    before_patch: Callable[[], Awaitable[Any]] | None = None

    async def patch_chunks(self, kb_id: str, context_id: str, chunk_patches: Sequence[Mapping[str, Any]]) -> None:
        if self.before_patch is not None:
            await self.before_patch()
        await super().patch_chunks(kb_id, context_id, chunk_patches)


@pytest.fixture
async def xtrace(credentials: Credentials) -> AsyncIterator[Disturbed]:
    async with Disturbed(
        credentials.org_id, credentials.api_key, credentials.admin_key, credentials.api_url
    ) as integration:
        yield integration


@pytest.fixture(scope="module", params=[True, ("tag1", "facets")], ids=["all", "named"])
def context(request: pytest.FixtureRequest) -> ExecutionContext:
    return new_context(request.param)


@pytest.fixture(scope="module")
def named() -> ExecutionContext:
    return new_context()


async def load(context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str, count: int = COUNT) -> list[int]:
    loader = DataLoader(context, xtrace)
    index, db = await loader.load_data_from_memory(collection(count), list(vectors(count)))
    return await loader.dump_db(db, index, kb_id)


async def clear(context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str) -> dict[int, dict[str, Any]]:
    """The metadata of all chunks by id, fetched by a retriever."""
    ids = range(1, 100)
    return {c["chunk_id"]: c["meta_data"] for c in await Retriever(context, xtrace).retrieve_and_decrypt(ids, kb_id)}


# What comes back


async def test_the_service_has_hashes_and_the_retriever_values(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str, http: Http
) -> None:
    ids = await load(context, xtrace, kb_id)
    assert await clear(context, xtrace, kb_id) == {chunk_id: meta_data(chunk_id - 1) for chunk_id in ids}
    for stored, plain in zip(http.get(kb_id, *ids, projection=("meta_data",)), collection(), strict=True):
        for field, value in plain["meta_data"].items():
            if field in context.private_metadata and value:
                assert value != stored["meta_data"][field]
            else:
                assert value == stored["meta_data"][field]
    results = await Retriever(context, xtrace).search(vectors()[3], 1, kb_id)
    assert [(one.text, one.meta_data) for one in results] == [("text 3", meta_data(3))]


async def test_a_projection_shows_values_or_nothing_of_private_fields(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str
) -> None:
    await load(context, xtrace, kb_id)
    retriever = Retriever(context, xtrace)
    shown: dict[tuple[str, ...], dict[str, Any]] = {
        ("tag1",): {"chunk_id": 1, "meta_data": {"tag1": "user 0"}},
        ("facets", "tag2"): {"chunk_id": 1, "meta_data": {"facets": ["even", "third"], "tag2": "project 0"}},
        ("meta_data",): {"chunk_id": 1, "meta_data": meta_data(0)},
        ("tag3",): {"chunk_id": 1, "meta_data": {}},
        ("chunk_content",): {"chunk_id": 1, "chunk_content": "text 0"},
        ("chunk_content", "tag1"): {"chunk_id": 1, "chunk_content": "text 0", "meta_data": {"tag1": "user 0"}},
    }
    for projection, expected in shown.items():
        assert await retriever.retrieve_and_decrypt([1], kb_id, projection) == [expected]
        assert (await retriever.meta_search({}, kb_id, projection))[0] == expected
    (fetched,) = await retriever.retrieve_and_decrypt([1], kb_id, ["created_at"])
    assert set(fetched) == {"chunk_id", "created_at"}


# Filters


@pytest.mark.parametrize("filter_", FILTERS, ids=str)
async def test_filters_with_clear_values_find_what_they_find_in_clear_metadata(
    filter_: dict[str, Any], named: ExecutionContext, xtrace: XTraceIntegration, kb_id: str
) -> None:
    ids = await load(named, xtrace, kb_id)
    expected = [chunk_id for chunk_id in ids if matches(filter_, meta_data(chunk_id - 1))]
    retriever, loader = Retriever(named, xtrace), DataLoader(named, xtrace)
    found = await retriever.meta_search(filter_, kb_id, ["meta_data", "chunk_content"])
    assert [chunk["chunk_id"] for chunk in found] == expected
    assert [chunk["meta_data"] for chunk in found] == [meta_data(chunk_id - 1) for chunk_id in expected]
    assert [chunk["chunk_content"] for chunk in found] == [f"text {chunk_id - 1}" for chunk_id in expected]
    near = await retriever.nn_search_for_ids(vectors()[0], COUNT, kb_id, meta_filter=filter_)
    assert sorted(near) == expected
    assert await loader.patch_chunks_by_meta(filter_, {"tag1": "x"}, kb_id, dry_run=True) == len(expected)
    assert await loader.delete_chunks_by_meta(filter_, kb_id, dry_run=True) == len(expected)
    assert await loader.delete_chunks_by_meta(filter_, kb_id) == len(expected)
    assert (await clear(named, xtrace, kb_id)).keys() == set(ids) - set(expected)


async def test_what_hashes_cannot_answer_is_refused_before_anything_is_sent(named: ExecutionContext) -> None:
    nowhere = XTraceIntegration(
        "org", "key", api_url="http://127.0.0.1:9"
    )  # an answer would be an error of another class
    retriever, loader = Retriever(named, nowhere), DataLoader(named, nowhere)
    filter_ = {"$or": [{"tag2": "x"}, {"tag1": {"$begins_with": "user"}}]}
    for call in (
        retriever.nn_search_for_ids(vectors()[0], 3, "kb", meta_filter=filter_),
        retriever.search(vectors()[0], 3, "kb", meta_filter=filter_),
        retriever.meta_search(filter_, "kb"),
        loader.patch_chunks_by_meta(filter_, {"tag2": "x"}, "kb"),
        loader.delete_chunks_by_meta(filter_, "kb"),
    ):
        with pytest.raises(NotOnPrivateField, match=r"\$begins_with on tag1: tag1 is private"):
            await call
    with pytest.raises(NotOnPrivateField, match="sort_by is tag1"):
        await anext(retriever.iter_meta_search({}, "kb", sort_by="tag1"))
    with pytest.raises(InvalidFilter, match="surrogates"):
        await retriever.meta_search({"tag1": "\ud800"}, "kb")
    with pytest.raises(InvalidFilter, match="is null, expected an object"):
        await loader.delete_chunks_by_meta(None, "kb")  # type: ignore[arg-type]


async def test_results_are_sorted_by_fields_that_the_service_sees(
    named: ExecutionContext, xtrace: XTraceIntegration, kb_id: str
) -> None:
    await load(named, xtrace, kb_id)
    found = Retriever(named, xtrace).iter_meta_search({}, kb_id, sort_by="tag2", sort_order="desc")
    tags = [chunk["meta_data"]["tag2"] async for chunk in found]
    assert tags == sorted(tags, reverse=True)


# Tampering


@pytest.mark.parametrize(
    "change",
    [{"tag1": "user 1"}, {"tag1": None}, {"tag1": ""}, {"facets": None}, {"facets": ["even"]}, {"tag1": "other's"}],
    ids=str,
)
async def test_a_changed_hash_is_noticed(
    change: dict[str, Any], named: ExecutionContext, xtrace: XTraceIntegration, kb_id: str, http: Http
) -> None:
    await load(named, xtrace, kb_id)
    if change == {"tag1": "other's"}:
        (other,) = http.get(kb_id, 2, projection=("tag1",))
        change = other["meta_data"]
    patch = {"kb_id": kb_id, "context_id": named.id, "chunk_patches": [{"chunk_id": 1, "meta_data": change}]}
    ok(http.data("PATCH", "/chunk/{org}", json=patch))
    field, retriever, loader = next(iter(change)), Retriever(named, xtrace), DataLoader(named, xtrace)
    ids = await retriever.nn_search_for_ids(vectors()[0], 1, kb_id)
    for call in (
        retriever.retrieve_and_decrypt(ids, kb_id),
        retriever.retrieve_and_decrypt([1], kb_id, [field]),
        retriever.meta_search({"tag2": "project 0"}, kb_id),
        loader.patch_chunks([{"chunk_id": 1, "meta_data": {"tag1": "new"}}], kb_id),
    ):
        with pytest.raises(ContentTampered, match=f"chunk 1: its {field}"):
            await call
    # Where the field is not looked at, nothing is wrong.
    assert await retriever.retrieve_and_decrypt([1], kb_id, ["chunk_content", "tag2"])


# Changing


async def test_a_patch_changes_values_and_nothing_else(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str, http: Http
) -> None:
    await load(context, xtrace, kb_id)
    names = [chunk["name"] for chunk in http.get(kb_id, 1, 2, 3)]
    loader, retriever = DataLoader(context, xtrace), Retriever(context, xtrace)
    await loader.patch_chunks(
        [
            {"chunk_id": 1, "meta_data": {"tag1": "new", "tag2": "seen", "facets": ["b", "a", "b"]}},
            {"chunk_id": 2, "meta_data": {"tag1": None, "tag3": "three"}},
            {"chunk_id": 3, "meta_data": {"facets": []}},
        ],
        kb_id,
    )
    expected = {
        1: {"tag1": "new", "tag2": "seen", "facets": ["b", "a"]},
        2: {"tag2": "project 1", "tag3": "three"},
        3: {"tag1": "user 2", "tag2": "project 2"},
    }
    now = await clear(context, xtrace, kb_id)
    assert {chunk_id: now[chunk_id] for chunk_id in expected} == expected
    assert now[4] == meta_data(3)
    assert [c["chunk_id"] for c in await retriever.meta_search({"tag1": "new", "facets": "a"}, kb_id)] == [1]
    assert [c["chunk_id"] for c in await retriever.meta_search({"tag1": {"$exists": False}}, kb_id)] == [2, 4, 5, 9, 10]
    # Text, vector and name are what they were.
    assert [one.text for one in await retriever.search(vectors()[0], 1, kb_id)] == ["text 0"]
    assert [chunk["name"] for chunk in http.get(kb_id, 1, 2, 3)] == names
    assert await load(context, xtrace, kb_id) == list(range(1, COUNT + 1))


@pytest.mark.parametrize("patch", [{"tag1": "gone"}, {"facets": ["x"]}, {"tag2": "public"}, {"tag1": None}], ids=str)
async def test_a_patch_by_filter_changes_what_it_matches_in_batches(
    patch: dict[str, Any],
    context: ExecutionContext,
    xtrace: XTraceIntegration,
    kb_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(patching, "BATCH_SIZE", 2)
    await load(context, xtrace, kb_id)
    filter_ = {"$or": [{"facets": "even"}, {"tag1": "user 1"}]}
    expected = {
        chunk_id: {field: value for field, value in (before | patch).items() if value is not None}
        if matches(filter_, before)
        else before
        for chunk_id, before in (await clear(context, xtrace, kb_id)).items()
    }
    matching = sum(matches(filter_, meta_data(i)) for i in range(COUNT))
    assert await DataLoader(context, xtrace).patch_chunks_by_meta(filter_, patch, kb_id) == matching
    assert await clear(context, xtrace, kb_id) == expected


async def test_a_patch_never_overwrites_what_others_wrote_meanwhile(
    named: ExecutionContext, xtrace: Disturbed, kb_id: str
) -> None:
    await load(named, xtrace, kb_id)
    loader, others = DataLoader(named, xtrace), iter(range(2))

    async def disturb() -> None:
        if (i := next(others, None)) is not None:
            chunk = {"chunk_content": f"another text {i}", "meta_data": {"tag1": "user 1", "tag4": f"other's {i}"}}
            await loader.upsert_one(chunk, vectors()[5], kb_id, chunk_id=2)

    xtrace.before_patch = disturb
    await loader.patch_chunks([{"chunk_id": i, "meta_data": {"tag1": "patched"}} for i in (1, 2)], kb_id)
    retriever = Retriever(named, xtrace)
    one, two = await retriever.retrieve_and_decrypt([1, 2], kb_id)
    assert (one["chunk_content"], one["meta_data"]) == ("text 0", meta_data(0) | {"tag1": "patched"})
    assert (two["chunk_content"], two["meta_data"]) == ("another text 1", {"tag1": "patched", "tag4": "other's 1"})


async def test_a_patch_by_filter_leaves_alone_what_matches_no_more(
    named: ExecutionContext, xtrace: Disturbed, kb_id: str
) -> None:
    await load(named, xtrace, kb_id)
    loader, others = DataLoader(named, xtrace), iter(range(1))

    async def disturb() -> None:
        for _ in others:
            await loader.upsert_one({"chunk_content": "x", "meta_data": {"tag1": "y"}}, vectors()[5], kb_id, chunk_id=2)
            await loader.delete_chunks([7], kb_id)

    xtrace.before_patch = disturb
    assert await loader.patch_chunks_by_meta({"tag1": "user 1"}, {"tag1": "z"}, kb_id) == 1
    tags = {chunk_id: meta.get("tag1") for chunk_id, meta in (await clear(named, xtrace, kb_id)).items()}
    assert (tags[2], tags[12], 7 in tags) == ("y", "z", False)


async def test_a_patch_gives_up_when_others_never_stop(
    named: ExecutionContext, xtrace: Disturbed, kb_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patching, "ATTEMPTS", 2)
    await load(named, xtrace, kb_id)
    loader = DataLoader(named, xtrace)
    xtrace.before_patch = lambda: loader.upsert_one({"chunk_content": "x"}, vectors()[5], kb_id, chunk_id=2)
    with pytest.raises(ChunksChanged):
        await loader.patch_chunks([{"chunk_id": 2, "meta_data": {"tag1": "patched"}}], kb_id)
    with pytest.raises(ChunksChanged):
        await loader.patch_chunks_by_meta({"tag1": {"$exists": False}}, {"tag1": "patched"}, kb_id)
    assert (await clear(named, xtrace, kb_id))[2] == {}


async def test_unknown_ids_are_named_and_what_is_done_is_told(
    named: ExecutionContext, xtrace: XTraceIntegration, kb_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await load(named, xtrace, kb_id)
    loader = DataLoader(named, xtrace)
    patches = [{"chunk_id": i, "meta_data": {"tag1": "new"}} for i in (1, 2, 77)]
    with pytest.raises(ChunksNotFound, match="77"):
        await loader.patch_chunks(patches, kb_id)
    assert (await clear(named, xtrace, kb_id))[1] == meta_data(0)
    monkeypatch.setattr(patching, "BATCH_SIZE", 2)
    with pytest.raises(PartlyStored, match="77") as raised:
        await loader.patch_chunks(patches, kb_id)
    assert raised.value.chunk_ids == [1, 2, None]


@pytest.mark.parametrize(
    ("patches", "complaint"),
    [
        ([{"chunk_id": 1, "meta_data": {"tag6": "x"}}], "tag6"),
        ([{"chunk_id": 1, "meta_data": {"tag1": 3}}], "tag1"),
        ([{"chunk_id": 1, "chunk_content": "x"}], "chunk_content"),
        ([{"chunk_id": "1", "meta_data": {}}], "integer"),
        ([{"chunk_id": 1, "meta_data": {}}, {"chunk_id": 1, "meta_data": {"tag1": "x"}}], "twice"),
    ],
)
async def test_a_bad_patch_is_one_clear_error(
    patches: list[dict[str, Any]], complaint: str, named: ExecutionContext, xtrace: XTraceIntegration, kb_id: str
) -> None:
    with pytest.raises((InvalidArgument, InvalidMetaData), match=complaint):
        await DataLoader(named, xtrace).patch_chunks(patches, kb_id)


async def test_a_patch_keeps_what_else_is_in_the_content(
    named: ExecutionContext, xtrace: XTraceIntegration, kb_id: str
) -> None:
    await load(named, xtrace, kb_id, 1)
    copy = np.arange(DIM, dtype=np.int8)
    (stored,) = await xtrace.get_chunk_by_id([1], kb_id, ["nonce"])
    content = pack(Content("text 0", {"tag1": "user 0", "facets": ["even", "third"]}, copy))
    patch = {"chunk_id": 1, "chunk_content": named.aes.encrypt(content, stored["nonce"])}
    await xtrace.patch_chunks(kb_id, named.id, [patch])
    await DataLoader(named, xtrace).patch_chunks([{"chunk_id": 1, "meta_data": {"tag1": "new"}}], kb_id)
    (stored,) = await xtrace.get_chunk_by_id([1], kb_id, ["chunk_content"])
    now = unpack(named.aes.decrypt_bytes(stored["chunk_content"], stored["nonce"]))
    assert (now.text, now.meta_data) == ("text 0", {"tag1": "new", "facets": ["even", "third"]})
    assert now.vector_copy is not None
    assert np.array_equal(now.vector_copy, copy)


# Contexts


async def test_a_rotation_keeps_hashes_values_and_names(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str, http: Http
) -> None:
    ids = await load(context, xtrace, kb_id)
    before = [chunk["meta_data"] for chunk in http.get(kb_id, *ids)]
    new = context.successor(provider(), key_len=256, insecure_allow_weak_parameters=True)
    assert new.private_metadata == context.private_metadata
    await new.save_to_remote(xtrace)
    # Half way: some chunks are under either context.
    loader, retriever = DataLoader(new, xtrace, context.private_metadata), Retriever(new, xtrace)
    await loader.upsert_one(collection()[1], vectors()[1], kb_id, chunk_id=2)
    found = await retriever.meta_search({"tag1": "user 1"}, kb_id)
    assert [(chunk["chunk_id"], chunk["meta_data"]) for chunk in found] == [
        (7, meta_data(6)),
        (12, meta_data(11)),
        (2, meta_data(1)),
    ]
    assert sorted(await retriever.nn_search_for_ids(vectors()[0], 9, kb_id, meta_filter={"tag1": "user 1"})) == [
        2,
        7,
        12,
    ]
    assert await loader.patch_chunks_by_meta({"tag1": "user 1"}, {"tag1": "changed"}, kb_id) == 3
    assert await loader.patch_chunks_by_meta({"tag1": "changed"}, {"tag1": "user 1"}, kb_id) == 3
    await rotate(new, xtrace)
    assert await clear(new, xtrace, kb_id) == {chunk_id: meta_data(chunk_id - 1) for chunk_id in ids}
    assert [chunk["meta_data"] for chunk in http.get(kb_id, *ids)] == before
    assert await load(new, xtrace, kb_id) == ids


async def test_the_loader_and_the_context_must_agree(named: ExecutionContext, xtrace: XTraceIntegration) -> None:
    for agreed in (None, ["facets", "tag1"]):
        DataLoader(named, xtrace, private_metadata=agreed)
    for other in (True, False, ["tag1"]):
        with pytest.raises(InvalidArgument, match="tag1, facets as fixed when the execution context"):
            DataLoader(named, xtrace, private_metadata=other)
    with pytest.raises(InvalidArgument, match="expected none"):
        DataLoader(new_context(False), xtrace, private_metadata=True)


async def test_contexts_of_other_clients_have_no_private_metadata(xtrace: XTraceIntegration) -> None:
    data = fixture("paillier")
    existing = ExecutionContext.load_from_remote(
        data["passphrase"], data["context_id"], StoredData(data["context"]), insecure_allow_weak_encryption=True
    )
    context = await existing
    assert context.private_metadata == ()
    with pytest.raises(InvalidArgument, match="expected none"):
        DataLoader(context, xtrace, private_metadata=True)


class StoredData:
    """A store of one context."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data

    async def get_serialized_exec_context(self, context_id: str) -> dict[str, Any]:
        return self.data

    async def store_exec_context(self, data: dict[str, Any], context_id: str) -> None:
        raise NotImplementedError
