"""Rescoring against the real server: candidates by Hamming distance, ordered by the cosine of their vectors' copies."""

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from benchmarks.recall import recall
from numpy.typing import NDArray

from xtrace_sdk.errors import InvalidArgument, InvalidVector, UnknownContent
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.chunks.envelope import Content, pack
from xtrace_sdk.x_vec.chunks.vector_copies import CopyKind
from xtrace_sdk.x_vec.chunks.vectors import float_to_bits
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.retrievers.retriever import Retriever
from xtrace_sdk.x_vec.upkeep.rotation import rotate
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

DIM = 32
COUNT = 80
FLOATS = np.random.default_rng(1).normal(size=(COUNT, DIM)).astype(np.float32)
QUERY = np.random.default_rng(2).normal(size=DIM).astype(np.float32)
COLLECTION = [{"chunk_content": f"text {i}", "meta_data": {"tag1": str(i % 2)}} for i in range(COUNT)]


class Model:
    """Takes each text's vector from a table."""

    async def embed_many(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.array([QUERY if text == "query" else FLOATS[int(text.split()[1])] for text in texts])

    async def bin_embed_many(self, texts: Sequence[str]) -> NDArray[np.uint8]:
        return float_to_bits(await self.embed_many(texts))


class BitsModel:
    """A model that gives nothing but bits."""

    async def bin_embed_many(self, texts: Sequence[str]) -> NDArray[np.uint8]:
        return await Model().bin_embed_many(texts)


@pytest.fixture(scope="module")
def context() -> ExecutionContext:
    provider = PassphraseKeyProvider("passphrase", insecure_log2_n=1)
    return ExecutionContext.create(provider, "paillier_lookup", DIM, 256, insecure_allow_weak_parameters=True)


def cosines(query: NDArray[np.float32]) -> NDArray[np.float64]:
    """The plain reference, of all chunks."""
    floats, wanted = FLOATS.astype(float), query.astype(float)
    return np.array([v @ wanted / np.sqrt((v @ v) * (wanted @ wanted)) for v in floats])


def by_bits(query: NDArray[np.float32]) -> list[int]:
    """The plain reference: positions, nearest first, ties by position."""
    distances = ((FLOATS > 0) != (query > 0)).sum(axis=1)
    return [int(i) for i in np.lexsort((np.arange(COUNT), distances))]


@pytest.mark.parametrize("kind", ["int8", "float32"])
async def test_the_k_most_similar_of_the_candidates_come_back(
    kind: CopyKind, context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str
) -> None:
    vectors = Model() if kind == "int8" else list(FLOATS)
    await DataLoader(context, xtrace, vector_copy=kind).load(COLLECTION, vectors, kb_id)
    retriever, exact = Retriever(context, xtrace, Model()), cosines(QUERY)
    for factor, candidates in ((1, 5), (4, 20), (1000, COUNT)):
        results = await retriever.search(QUERY, 5, kb_id, rescore=factor)
        expected = sorted(by_bits(QUERY)[:candidates], key=lambda i: -exact[i])[:5]
        assert [result.chunk_id - 1 for result in results] == expected
        assert [result.similarity for result in results] == pytest.approx(exact[expected], abs=0.02)
        assert [result.text for result in results] == [f"text {i}" for i in expected]
        assert [result.distance for result in results] == [
            int(((FLOATS[i] > 0) != (QUERY > 0)).sum()) for i in expected
        ]
        assert await retriever.search("query", 5, kb_id, rescore=factor) == results


async def test_without_rescoring_nothing_changes_and_copies_are_not_handed_out(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str
) -> None:
    await DataLoader(context, xtrace, vector_copy="int8").load(COLLECTION, Model(), kb_id)
    retriever = Retriever(context, xtrace, BitsModel())
    results = await retriever.search("query", 5, kb_id)
    assert [result.chunk_id - 1 for result in results] == by_bits(QUERY)[:5]
    assert {result.similarity for result in results} == {None}
    (chunk,) = await retriever.retrieve_and_decrypt([1], kb_id)
    assert set(chunk) == {"chunk_id", "chunk_content", "meta_data", "name", "created_at", "updated_at"}


async def test_filters_ranges_and_decoys_go_together_with_rescoring(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str
) -> None:
    await DataLoader(context, xtrace, vector_copy="int8").load(COLLECTION, Model(), kb_id)
    retriever, exact = Retriever(context, xtrace), cosines(QUERY)
    found = await retriever.search(
        QUERY, 3, kb_id, range_filter=(11, 60), meta_filter={"tag1": "0"}, rescore=1000, decoys=4
    )
    expected = sorted(range(10, 60, 2), key=lambda i: -exact[i])[:3]
    assert [result.chunk_id - 1 for result in found] == expected
    assert await retriever.search(QUERY, 3, kb_id, range_filter=(900, 999), rescore=4) == []


@pytest.mark.parametrize("rescore", [0, -1, 1.5, "4", True])
async def test_rescore_is_a_whole_number_from_1(
    rescore: Any, context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str
) -> None:
    with pytest.raises(InvalidArgument, match="expected a whole number of at least 1"):
        await Retriever(context, xtrace).search(QUERY, kb_id=kb_id, rescore=rescore)


async def test_chunks_without_a_copy_are_an_error_that_says_how_to_store_it(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str
) -> None:
    plain, retriever = DataLoader(context, xtrace), Retriever(context, xtrace)
    await plain.load(COLLECTION[:3], Model(), kb_id)
    with pytest.raises(InvalidArgument, match=r"chunks 1, 2, 3 have no copy .* vector_copy=.*superseded"):
        await retriever.search(QUERY, 3, kb_id, rescore=1)
    loader = DataLoader(context, xtrace, vector_copy="int8")  # does what the message says
    assert (await loader.load(COLLECTION[:3], Model(), kb_id)).stored == 3
    assert (await loader.load(COLLECTION[:3], Model(), kb_id)).stored == 0
    old = await loader.superseded(COLLECTION[:3], kb_id)
    assert await loader.delete_chunks(old, kb_id) == 3
    assert [result.chunk_id for result in await retriever.search(FLOATS[0], 1, kb_id, rescore=4)] == [4]


@pytest.mark.parametrize("bits", [[0, 1] * (DIM // 2), np.ones(DIM, dtype=np.uint8)])
async def test_bits_are_refused_where_floats_are_needed(
    bits: Any, context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str
) -> None:
    loader = DataLoader(context, xtrace, vector_copy="int8")
    for attempt in (
        loader.load_data_from_memory(COLLECTION[:2], [FLOATS[0], bits]),
        loader.load_data_from_memory_batch(COLLECTION[:2], np.array([bits, bits])),
        loader.upsert_one(COLLECTION[0], bits, kb_id),
        Retriever(context, xtrace).search(bits, 3, kb_id, rescore=4),
    ):
        with pytest.raises(InvalidVector, match=r"expected floats.*embed_many"):
            await attempt


async def test_a_model_without_floats_is_refused_where_they_are_needed(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str
) -> None:
    with pytest.raises(InvalidArgument, match="BitsModel has no embed_many"):
        await DataLoader(context, xtrace, vector_copy="int8").load(COLLECTION, BitsModel(), kb_id)
    with pytest.raises(InvalidArgument, match="BitsModel has no embed_many"):
        await Retriever(context, xtrace, BitsModel()).search("query", kb_id=kb_id, rescore=2)
    assert (await DataLoader(context, xtrace).load(COLLECTION, BitsModel(), kb_id)).stored == COUNT


async def test_an_unknown_kind_of_copy_is_refused(context: ExecutionContext, xtrace: XTraceIntegration) -> None:
    with pytest.raises(InvalidArgument, match="vector_copy is a str, expected one of 'int8', 'float32' or None"):
        DataLoader(context, xtrace, vector_copy="int4")  # type: ignore[arg-type]


async def test_a_replaced_chunk_has_the_copy_of_its_new_vector(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str
) -> None:
    loader = DataLoader(context, xtrace, vector_copy="float32")
    chunk_id = await loader.upsert_one(COLLECTION[0], FLOATS[0], kb_id)
    assert await loader.upsert_one(COLLECTION[1], FLOATS[1].tolist(), kb_id, chunk_id) == chunk_id
    (result,) = await Retriever(context, xtrace).search(FLOATS[1], 1, kb_id, rescore=1)
    assert result.text == "text 1"
    assert result.similarity == pytest.approx(1)


async def test_a_copy_of_another_length_is_one_clear_error(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str
) -> None:
    loader = DataLoader(context, xtrace, vector_copy="int8")
    index, db = await loader.load_data_from_memory(COLLECTION[:1], [FLOATS[0]])
    short = Content("text 0", vector_copy=np.ones(DIM - 1, dtype=np.int8))
    db[0]["chunk_content"] = context.aes.encrypt(pack(short), index[0].nonce)
    await loader.dump_db(db, index, kb_id)
    with pytest.raises(UnknownContent, match=f"chunk 1: .* {DIM - 1} elements, expected {DIM}"):
        await Retriever(context, xtrace).search(FLOATS[0], 1, kb_id, rescore=1)


async def test_copies_survive_a_rotation(xtrace: XTraceIntegration, context: ExecutionContext, kb_id: str) -> None:
    await DataLoader(context, xtrace, vector_copy="int8").load(COLLECTION, Model(), kb_id)
    provider = PassphraseKeyProvider("new", insecure_log2_n=1)
    new = context.successor(provider, key_len=256, insecure_allow_weak_parameters=True)
    before = await Retriever(new, xtrace).search(QUERY, 5, kb_id, rescore=4)
    await new.save_to_remote(xtrace)
    assert (await rotate(new, xtrace)).total == COUNT
    assert await Retriever(new, xtrace).search(QUERY, 5, kb_id, rescore=4) == before
    assert len(before) == 5


async def test_the_service_sees_a_byte_a_dimension_more_and_no_vector(
    context: ExecutionContext, xtrace: XTraceIntegration
) -> None:
    lengths = {}
    for kind in (None, "int8", "float32"):
        loader = DataLoader(context, xtrace, vector_copy=kind)
        _, db = await loader.load_data_from_memory(COLLECTION[:1], [FLOATS[0]])
        lengths[kind] = len(base64.b64decode(db[0]["chunk_content"]))
    assert lengths[None] == 32 + len("text 0")
    assert lengths["int8"] - lengths[None] == DIM + 15
    assert lengths["float32"] - lengths[None] == 4 * DIM + 18


async def test_the_measured_recall_is_that_of_the_encrypted_search(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str
) -> None:
    await DataLoader(context, xtrace, vector_copy="int8").load(COLLECTION, Model(), kb_id)
    queries = np.random.default_rng(3).normal(size=(10, DIM)).astype(np.float32)
    measured = {(w["k"], w["rescore"]): w["recall"] for w in recall(FLOATS, queries) if w["vector_copy"] != "float32"}
    retriever = Retriever(context, xtrace)
    for k, rescore in ((10, None), (10, 2), (3, 4)):
        hits = 0
        for query in queries:
            exact = {int(i) + 1 for i in np.argsort(-cosines(query), kind="stable")[:k]}
            found = await retriever.search(query, k, kb_id, rescore=rescore)
            hits += len(exact & {result.chunk_id for result in found})
        assert hits / (k * len(queries)) == pytest.approx(measured[k, rescore], abs=1e-4)
