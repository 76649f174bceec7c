"""Loader and retriever against the real server: what goes in comes out, in the right order, and once."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from support.schemes import SCHEMES, key_len
from xtrace_sdk.errors import (
    ChangedSinceSearch,
    ContentTampered,
    InvalidArgument,
    InvalidMetaData,
    InvalidRows,
    InvalidVector,
    NotFound,
    NothingToSearch,
    Unauthenticated,
    UnknownContent,
)
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.notices import NothingStored
from xtrace_sdk.x_vec.chunks.envelope import Content, pack
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.retrievers.retriever import Retriever, SearchResult
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
from xtrace_server.credentials import Credentials

DIM = 24
COUNT = 60


def new_context(scheme: str = "paillier_lookup", dim: int = DIM) -> ExecutionContext:
    provider = PassphraseKeyProvider("passphrase", insecure_log2_n=1)
    return ExecutionContext.create(provider, scheme, dim, key_len(scheme), insecure_allow_weak_parameters=True)


def chunks(count: int = COUNT) -> list[dict[str, Any]]:
    return [{"chunk_content": f"text {i} – ünïcode", "meta_data": {"tag1": f"tag {i % 3}"}} for i in range(count)]


def vectors(count: int = COUNT, dim: int = DIM) -> NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 2, (count, dim), dtype=np.uint8)


def nearest(matrix: NDArray[np.uint8], query: NDArray[np.uint8]) -> tuple[list[int], list[int]]:
    """The plain reference: positions and distances, nearest first, ties by position."""
    distances = (matrix ^ query).sum(axis=1)
    order = np.lexsort((np.arange(len(matrix)), distances))
    return [int(i) for i in order], [int(distances[i]) for i in order]


@pytest.fixture(scope="module", params=SCHEMES)
def context(request: pytest.FixtureRequest) -> ExecutionContext:
    return new_context(request.param)


@pytest.fixture
async def xtrace(credentials: Credentials) -> AsyncIterator[XTraceIntegration]:
    async with XTraceIntegration(
        org_id=credentials.org_id,
        api_key=credentials.api_key,
        admin_key=credentials.admin_key,
        api_url=credentials.api_url,
    ) as integration:
        yield integration


async def stored_ids(context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str) -> list[int]:
    loader = DataLoader(context, xtrace)
    index, db = await loader.load_data_from_memory(chunks(), list(vectors()))
    return await loader.dump_db(db, index=index, kb_id=kb_id)


async def test_a_search_finds_what_a_plain_search_finds(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str
) -> None:
    ids = await stored_ids(context, xtrace, kb_id)
    assert ids == list(range(1, COUNT + 1))
    retriever = Retriever(context, xtrace)
    for query in (vectors()[7], 1 - vectors()[7], np.zeros(DIM, dtype=np.uint8)):
        order, distances = nearest(vectors(), query)
        for k in (1, 5, COUNT, COUNT + 10):
            found, scores = await retriever.nn_search_for_ids(query, k=k, kb_id=kb_id, include_scores=True)
            assert found == [ids[i] for i in order[:k]]
            assert scores == distances[:k]
    texts = await retriever.retrieve_and_decrypt([ids[9], ids[2]], kb_id=kb_id)
    assert [chunk["chunk_content"] for chunk in texts] == ["text 9 – ünïcode", "text 2 – ünïcode"]
    assert [chunk["meta_data"] for chunk in texts] == [{"tag1": "tag 0"}, {"tag1": "tag 2"}]
    assert Retriever.format_context(texts) == "[1] text 9 – ünïcode\n\n[2] text 2 – ünïcode"


@pytest.mark.parametrize("dim", [1, 6, 300, 600])
async def test_every_length_of_vectors_is_searched(dim: int, xtrace: XTraceIntegration, kb_id: str) -> None:
    context, matrix = new_context(dim=dim), vectors(10, dim)
    loader = DataLoader(context, xtrace)
    index, db = await loader.load_data_from_memory_batch(chunks(10), matrix)
    ids = await loader.dump_db(db, index=index, kb_id=kb_id)
    order, distances = nearest(matrix, matrix[3])
    found = await Retriever(context, xtrace).nn_search_for_ids(matrix[3], 10, kb_id, include_scores=True)
    assert found == ([ids[i] for i in order], distances)


async def test_range_and_metadata_filters_restrict_the_candidates(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str
) -> None:
    ids = await stored_ids(context, xtrace, kb_id)
    retriever = Retriever(context, xtrace)
    found = await retriever.nn_search_for_ids(vectors()[0], COUNT, kb_id, range_filter=(10, 20))
    assert sorted(found) == list(range(10, 21))
    found = await retriever.nn_search_for_ids(vectors()[0], COUNT, kb_id, meta_filter={"tag1": "tag 1"})
    assert sorted(found) == [i for i in ids if i % 3 == 2]
    assert await retriever.nn_search_for_ids(vectors()[0], 3, kb_id, range_filter=(900, 999)) == []


async def test_a_batch_of_searches_finds_what_each_search_finds(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str
) -> None:
    await stored_ids(context, xtrace, kb_id)
    retriever = Retriever(context, xtrace)
    queries = [*vectors()[:3], *(1 - vectors()[:32])]
    found = await retriever.nn_search_batch(queries, k=4, kb_id=kb_id)
    for query, (ids, scores) in zip(queries, found, strict=True):
        order, distances = nearest(vectors(), query)
        assert (ids, scores) == ([i + 1 for i in order[:4]], distances[:4])
    assert await retriever.nn_search_batch([], kb_id=kb_id) == []


async def test_search_gives_ready_results_for_texts_and_vectors(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str
) -> None:
    await stored_ids(context, xtrace, kb_id)
    retriever = Retriever(context, xtrace, embedding=CountingEmbedder())
    (best, second) = await retriever.search("text 7", k=2, kb_id=kb_id)
    assert best == SearchResult(8, "text 7 – ünïcode", {"tag1": "tag 1"}, 0)
    assert second.distance == nearest(vectors(), vectors()[7])[1][1]
    assert await retriever.search(vectors()[7], k=2, kb_id=kb_id) == [best, second]
    assert await retriever.search("text 7", 1, kb_id, range_filter=(20, 20)) != [best]
    with pytest.raises(InvalidArgument, match="embedding"):
        await Retriever(context, xtrace).search("text 7", kb_id=kb_id)


async def test_a_second_run_of_a_load_stores_nothing_twice(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str
) -> None:
    ids = await stored_ids(context, xtrace, kb_id)
    assert await stored_ids(context, xtrace, kb_id) == ids
    assert (await xtrace.get_kb(kb_id)).number_of_vectors == COUNT


async def test_equal_chunks_of_one_collection_are_all_stored(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str
) -> None:
    loader = DataLoader(context, xtrace)
    collection = [{"chunk_content": "the same"}] * 3 + [{"chunk_content": "the same", "meta_data": {"tag1": "a"}}]
    index, db = await loader.load_data_from_memory(collection, list(vectors(4)))
    assert await loader.dump_db(db, index=index, kb_id=kb_id) == [1, 2, 3, 4]


class CountingEmbedder:
    """Takes each text's vector from a table, and remembers what was asked."""

    def __init__(self, broken_after: int | None = None) -> None:
        self.asked: list[str] = []
        self.broken_after = broken_after

    async def bin_embed_many(self, texts: Sequence[str]) -> NDArray[np.uint8]:
        if self.broken_after is not None and len(self.asked) >= self.broken_after:
            raise InvalidVector("the model broke")
        self.asked += texts
        return np.array([vectors()[int(text.split()[1])] for text in texts])


async def test_a_load_that_was_cut_off_goes_on_where_it_stopped(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str
) -> None:
    loader = DataLoader(context, xtrace)
    with pytest.raises(InvalidVector, match="broke"):
        await loader.load(chunks(), CountingEmbedder(broken_after=40), kb_id, batch_size=20)
    assert (await xtrace.get_kb(kb_id)).number_of_vectors == 40
    embedder = CountingEmbedder()
    summary = await loader.load(chunks(), embedder, kb_id, batch_size=20)
    assert (summary.stored, summary.known) == (20, 40)
    assert embedder.asked == [chunk["chunk_content"] for chunk in chunks()[40:]]
    assert (await xtrace.get_kb(kb_id)).number_of_vectors == COUNT


async def test_changed_chunks_are_loaded_and_superseded_ones_are_known(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str
) -> None:
    loader = DataLoader(context, xtrace)
    await loader.load(chunks(), CountingEmbedder(), kb_id)
    changed = [*chunks()[:5], {"chunk_content": "text 5 is another now"}, *chunks()[6:]]
    assert (await loader.load(changed, CountingEmbedder(), kb_id)).stored == 1
    assert await loader.superseded(changed, kb_id) == [6]
    assert await loader.delete_chunks([6], kb_id) == 1
    assert await loader.superseded(changed, kb_id) == []


async def test_vectors_may_be_bits_floats_lists_and_awaitables(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str
) -> None:
    async def later(vector: object) -> object:
        await asyncio.sleep(0)
        return vector

    bits = vectors(5)
    floats = (bits.astype(np.float32) - 0.5) * 0.1
    mixed = [bits[0], bits[1].tolist(), floats[2], later(bits[3]), asyncio.ensure_future(later(floats[4].tolist()))]
    loader = DataLoader(context, xtrace)
    index, db = await loader.load_data_from_memory(chunks(5), mixed)
    ids = await loader.dump_db(db, index=index, kb_id=kb_id, concurrent=True)
    retriever = Retriever(context, xtrace)
    for i, query in enumerate((floats[0], later(bits[1]), bits[2].tolist(), bits[3] == 1, floats[4])):
        found = await retriever.nn_search_for_ids(query, 1, kb_id, include_scores=True)
        assert found == ([ids[i]], [0])


@pytest.mark.parametrize(
    ("vector", "complaint"),
    [
        (np.zeros(DIM + 1), "25 floats, expected 24"),
        (np.zeros((1, DIM)), "2 dimensions"),
        (np.full(DIM, 2), "other than 0 and 1"),
        (np.full(DIM, np.nan), "finite"),
        (["a"] * DIM, "other than 0 and 1"),
        ([[0], [0, 1]], "dimensions"),
        (7, "0 dimensions"),
    ],
)
async def test_a_bad_vector_is_one_clear_error(
    vector: object, complaint: str, context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str
) -> None:
    with pytest.raises(InvalidVector, match=complaint):
        await DataLoader(context, xtrace).load_data_from_memory(chunks(2), [vectors()[0], vector])
    with pytest.raises(InvalidVector, match=complaint):
        await Retriever(context, xtrace).nn_search_for_ids(vector, 1, kb_id)


async def test_a_bad_collection_is_one_clear_error(context: ExecutionContext, xtrace: XTraceIntegration) -> None:
    loader = DataLoader(context, xtrace)
    for bad in ({"text": "a"}, {"chunk_content": 3}, {"chunk_content": "a", "metadata": {}}):
        with pytest.raises(InvalidArgument, match="chunk 1 of the collection"):
            await loader.load_data_from_memory([chunks()[0], bad], list(vectors(2)))
    with pytest.raises(InvalidMetaData, match=r"chunk 0.*tag9"):
        await loader.load_data_from_memory([{"chunk_content": "a", "meta_data": {"tag9": "x"}}], [vectors()[0]])
    with pytest.raises(InvalidArgument, match="2 chunks but 1 vectors"):
        await loader.load_data_from_memory(chunks(2), [vectors()[0]])


async def test_one_chunk_is_inserted_or_replaced(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str
) -> None:
    loader, retriever = DataLoader(context, xtrace), Retriever(context, xtrace)
    first = await loader.upsert_one({"chunk_content": "first"}, vectors()[0], kb_id)
    assert await loader.upsert_one({"chunk_content": "first"}, vectors()[0], kb_id) == first
    found = await retriever.nn_search_for_ids(vectors()[0], 1, kb_id)
    assert await loader.upsert_one({"chunk_content": "second"}, vectors()[1], kb_id, chunk_id=first) == first
    with pytest.raises(ChangedSinceSearch, match="search again"):
        await retriever.retrieve_and_decrypt(found, kb_id)
    found = await retriever.nn_search_for_ids(vectors()[1], 1, kb_id)
    assert [chunk["chunk_content"] for chunk in await retriever.retrieve_and_decrypt(found, kb_id)] == ["second"]
    with pytest.raises(NotFound, match="77"):
        await loader.upsert_one({"chunk_content": "x"}, vectors()[1], kb_id, chunk_id=77)


async def test_bad_rows_fail_the_search_and_name_their_chunks(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str
) -> None:
    await stored_ids(context, xtrace, kb_id)
    one, other = context.homomorphic.encrypt_vec_batch(vectors(2))
    patch = {"chunk_id": 4, "index": one.ciphertexts(), "nonce": other.nonce}
    await xtrace.patch_chunks(kb_id, context.id, [patch])
    with pytest.raises(InvalidRows) as raised:
        await Retriever(context, xtrace).nn_search_for_ids(vectors()[0], 3, kb_id)
    assert raised.value.chunk_ids == [4]


async def test_content_of_another_vector_is_refused(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str
) -> None:
    ids = await stored_ids(context, xtrace, kb_id)
    (chunk,) = await xtrace.get_chunk_by_id([ids[0]], kb_id, projection=["chunk_content"])
    await xtrace.patch_chunks(kb_id, context.id, [{"chunk_id": ids[1], "chunk_content": chunk["chunk_content"]}])
    with pytest.raises(ContentTampered, match="chunk 2"):
        await Retriever(context, xtrace).retrieve_and_decrypt([ids[1]], kb_id)


async def test_the_text_of_an_envelope_is_read_and_an_unknown_form_is_one_clear_error(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str
) -> None:
    loader, retriever = DataLoader(context, xtrace), Retriever(context, xtrace)
    index, db = await loader.load_data_from_memory(chunks(2), list(vectors(2)))
    envelope = pack(Content("text 0", vector_copy=np.ones(DIM, dtype=np.int8)))
    for chunk, encrypted, plaintext in zip(db, index, (envelope, b"\xff\x80"), strict=True):
        chunk["chunk_content"] = context.aes.encrypt(plaintext, encrypted.nonce)
    ids = await loader.dump_db(db, index, kb_id)
    (chunk,) = await retriever.retrieve_and_decrypt(ids[:1], kb_id)
    assert set(chunk) == {"chunk_id", "chunk_content", "meta_data", "name", "created_at", "updated_at"}
    assert chunk["chunk_content"] == "text 0"
    with pytest.raises(UnknownContent, match=r"chunk 2: .* newer version"):
        await retriever.retrieve_and_decrypt(ids, kb_id)


async def test_ids_that_are_gone_are_left_out(context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str) -> None:
    ids = await stored_ids(context, xtrace, kb_id)
    retriever = Retriever(context, xtrace)
    assert await xtrace.delete_chunks(ids[:2], kb_id) == 2
    left = await retriever.retrieve_and_decrypt([ids[1], ids[3], ids[0], ids[2]], kb_id)
    assert [chunk["chunk_id"] for chunk in left] == [ids[3], ids[2]]
    assert await retriever.retrieve_and_decrypt([], kb_id) == []


async def test_a_search_before_anything_was_stored_says_what_to_do(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str
) -> None:
    with pytest.raises(NotFound, match="save"):
        await Retriever(context, xtrace).nn_search_for_ids(vectors()[0], 3, kb_id)
    await context.save_to_remote(xtrace)
    with pytest.warns(NothingStored, match="nothing is stored in the knowledge base"):
        assert await Retriever(context, xtrace).nn_search_for_ids(vectors()[0], 3, kb_id) == []


async def test_a_search_with_another_context_than_the_chunks_says_so(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str
) -> None:
    await stored_ids(context, xtrace, kb_id)
    other = new_context()
    await other.save_to_remote(xtrace)
    retriever = Retriever(other, xtrace)
    with pytest.raises(NothingToSearch, match=f"another one is in use there .{context.id[:12]}"):
        await retriever.nn_search_for_ids(vectors()[0], 3, kb_id)
    assert await retriever.nn_search_for_ids(vectors()[0], 3, kb_id, meta_filter={"tag1": "a"}) == []
    await DataLoader(other, xtrace).upsert_one({"chunk_content": "one"}, vectors()[0], kb_id)
    assert await retriever.nn_search_for_ids(vectors()[0], 3, kb_id) == [COUNT + 1]


async def test_unknown_knowledge_bases_and_wrong_keys_are_told_apart(
    context: ExecutionContext, xtrace: XTraceIntegration, credentials: Credentials
) -> None:
    await context.save_to_remote(xtrace)
    with pytest.raises(NotFound):
        await Retriever(context, xtrace).nn_search_for_ids(vectors()[0], 3, "no-such-kb")
    wrong = XTraceIntegration(credentials.org_id, "wrong-key", api_url=credentials.api_url)
    with pytest.raises(Unauthenticated):
        await Retriever(context, wrong).nn_search_for_ids(vectors()[0], 3, "no-such-kb")
    await wrong.aclose()


async def test_only_the_public_part_is_registered_by_a_load(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str
) -> None:
    await stored_ids(context, xtrace, kb_id)
    data = await xtrace.get_serialized_exec_context(context.id)
    assert set(data) == {"type", "pk", "config"}
