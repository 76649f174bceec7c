"""A context remembers the model that its vectors are from: no other one is taken, and none needs to be given."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from xtrace_sdk.errors import InvalidArgument, InvalidContext, InvalidVector, OtherModel
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.contexts.context_keys import ContextKeys
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.inference.embedding import Embedding
from xtrace_sdk.x_vec.inference.model import EmbeddingModel
from xtrace_sdk.x_vec.retrievers.retriever import Retriever
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
from xtrace_server.credentials import Credentials

DIM = 64
CHUNKS = [{"chunk_content": "The cat is asleep on the sofa."}, {"chunk_content": "The invoice is due in March."}]


def wordllama(model_name: str = "l2_supercat", dim: int = DIM, bits: int | None = None) -> Embedding:
    return Embedding("wordllama", model_name, dim, bits=bits)


def new_context(embedding: Any = None, dim: int | None = None) -> ExecutionContext:
    provider = PassphraseKeyProvider("passphrase", insecure_log2_n=1)
    return ExecutionContext.create(
        provider, "paillier_lookup", dim, 256, embedding=embedding, insecure_allow_weak_parameters=True
    )


@pytest.fixture
async def xtrace(credentials: Credentials) -> AsyncIterator[XTraceIntegration]:
    async with XTraceIntegration(
        org_id=credentials.org_id,
        api_key=credentials.api_key,
        admin_key=credentials.admin_key,
        api_url=credentials.api_url,
    ) as integration:
        yield integration


async def test_the_remembered_model_embeds_texts_and_queries(xtrace: XTraceIntegration, kb_id: str) -> None:
    context = new_context(wordllama())
    await context.save_to_remote(xtrace)
    restored = await ExecutionContext.load_from_remote(
        "passphrase", context.id, xtrace, insecure_allow_weak_encryption=True
    )
    assert (restored.embedding_model, restored.embed_len()) == (EmbeddingModel("wordllama", "l2_supercat", DIM), DIM)
    assert (await DataLoader(restored, xtrace).load(CHUNKS, None, kb_id)).stored == 2
    (found,) = await Retriever(restored, xtrace).search("Which animal is napping?", 1, kb_id)
    assert found.text == CHUNKS[0]["chunk_content"]
    assert (await DataLoader(context, xtrace).load(CHUNKS, wordllama(), kb_id)).stored == 0  # the same names


async def test_another_model_is_refused(xtrace: XTraceIntegration, kb_id: str) -> None:
    loader = DataLoader(new_context(wordllama()), xtrace)
    for other in (wordllama("wordllama"), wordllama(dim=DIM // 2)):
        with pytest.raises(OtherModel, match=f"created for wordllama/l2_supercat with {DIM} dimensions"):
            await loader.load(CHUNKS, other, kb_id)
        with pytest.raises(OtherModel):
            Retriever(new_context(wordllama()), xtrace, other)
        with pytest.raises(OtherModel):
            await loader.superseded(CHUNKS, kb_id, embedding=other)
    assert (await xtrace.get_kb(kb_id)).number_of_vectors == 0


async def test_what_another_model_loads_is_stored_anew_and_the_old_is_superseded(
    xtrace: XTraceIntegration, kb_id: str
) -> None:
    loader = DataLoader(new_context(dim=DIM), xtrace)
    await loader.load(CHUNKS, wordllama("wordllama"), kb_id)
    summary = await loader.load(CHUNKS, wordllama(), kb_id)
    assert summary.stored == 2
    assert await loader.superseded(summary, kb_id) == [1, 2]
    assert await loader.superseded(CHUNKS, kb_id, embedding=wordllama()) == [1, 2]


async def test_a_context_without_a_model_asks_for_one(xtrace: XTraceIntegration, kb_id: str) -> None:
    context = new_context(dim=DIM)
    assert context.embedding_model is None
    with pytest.raises(InvalidArgument, match="the context does not name one"):
        await DataLoader(context, xtrace).load(CHUNKS, None, kb_id)


def test_a_successor_has_its_predecessors_model() -> None:
    context = new_context(EmbeddingModel("openai", "text-embedding-3-small", DIM))
    successor = context.successor(
        PassphraseKeyProvider("another", insecure_log2_n=1), key_len=256, insecure_allow_weak_parameters=True
    )
    assert successor.embedding_model == context.embedding_model
    assert successor.forget_predecessor().embedding_model == context.embedding_model


def test_the_length_of_vectors_is_the_models() -> None:
    assert new_context(wordllama(), DIM).embed_len() == DIM
    with pytest.raises(InvalidArgument, match=f"embedding_length is {DIM + 1}, but the embedding has {DIM}"):
        new_context(wordllama(), DIM + 1)
    assert new_context().embed_len() == 512
    for wrong in (("", "model", 3), ("openai", "model", 0), ("openai", 7, 3)):
        with pytest.raises(InvalidArgument, match="has a provider, a name"):
            EmbeddingModel(*wrong)


def test_the_public_part_does_not_tell_the_model() -> None:
    assert "supercat" not in str(new_context(wordllama()).public_data())


# More bits than dimensions

BITS = 200


async def test_bits_of_a_projection_are_loaded_searched_and_rescored(xtrace: XTraceIntegration, kb_id: str) -> None:
    embedding = wordllama(bits=BITS)
    context = new_context(embedding)
    assert (context.embed_len(), context.embedding_model) == (
        BITS,
        EmbeddingModel("wordllama", "l2_supercat", DIM, BITS),
    )
    await context.save_to_remote(xtrace)
    restored = await ExecutionContext.load_from_remote(
        "passphrase", context.id, xtrace, insecure_allow_weak_encryption=True
    )
    assert restored.embedding_model == context.embedding_model
    assert (await DataLoader(restored, xtrace, vector_copy="int8").load(CHUNKS, None, kb_id)).stored == 2
    retriever = Retriever(restored, xtrace)
    (found,) = await retriever.search("Which animal is napping?", 1, kb_id, rescore=2)
    assert found.text == CHUNKS[0]["chunk_content"]
    floats, bits = await embedding.embed("a nap"), await embedding.bin_embed("a nap")
    assert (floats.shape, bits.shape) == ((DIM,), (BITS,))
    stored = await embedding.bin_embed_many([chunk["chunk_content"] for chunk in CHUNKS])
    by_bits = await retriever.nn_search_for_ids(bits, 2, kb_id, include_scores=True)
    assert sorted(by_bits[1]) == sorted(int((row != bits).sum()) for row in stored)
    assert by_bits == await retriever.nn_search_for_ids(floats, 2, kb_id, include_scores=True)
    assert (await DataLoader(restored, xtrace, vector_copy="int8").load(CHUNKS, embedding, kb_id)).stored == 0


async def test_vectors_given_as_floats_and_as_bits_are_stored_alike(xtrace: XTraceIntegration, kb_id: str) -> None:
    embedding = wordllama(bits=BITS)
    context = new_context(embedding)
    texts = [chunk["chunk_content"] for chunk in CHUNKS]
    floats, bits = await embedding.embed_many(texts), await embedding.bin_embed_many(texts)
    await DataLoader(context, xtrace).load(CHUNKS, [floats[0], bits[1]], kb_id)
    ids, distances = await Retriever(context, xtrace).nn_search_for_ids(bits[0], 2, kb_id, include_scores=True)
    assert (ids[0], distances) == (1, [0, int((bits[0] != bits[1]).sum())])


async def test_other_bits_are_another_model(xtrace: XTraceIntegration, kb_id: str) -> None:
    context = new_context(wordllama(bits=BITS))
    for other in (wordllama(), wordllama(bits=BITS - 1), wordllama(bits=DIM)):
        with pytest.raises(
            OtherModel, match=rf"created for wordllama/l2_supercat with {DIM} dimensions and {BITS} bits"
        ):
            await DataLoader(context, xtrace).load(CHUNKS, other, kb_id)
        with pytest.raises(OtherModel):
            Retriever(context, xtrace, other)
    unaware = new_context(dim=DIM)
    with pytest.raises(OtherModel, match=f"the context's vectors have {DIM} bits: use Embedding\\(…, bits={DIM}\\)"):
        await DataLoader(unaware, xtrace).load(CHUNKS, wordllama(bits=BITS), kb_id)
    with pytest.raises(OtherModel):
        Retriever(unaware, xtrace, wordllama(bits=BITS))
    with pytest.raises(InvalidVector, match=f"{DIM + 1} floats, expected {DIM} floats .* or {BITS} bits"):
        await Retriever(context, xtrace).nn_search_for_ids([0.5] * (DIM + 1), 1, kb_id)
    assert (await xtrace.get_kb(kb_id)).number_of_vectors == 0


async def test_a_context_that_does_not_remember_the_model_takes_its_bits(xtrace: XTraceIntegration, kb_id: str) -> None:
    context, embedding = new_context(dim=BITS), wordllama(bits=BITS)
    assert (await DataLoader(context, xtrace, vector_copy="int8").load(CHUNKS, embedding, kb_id)).stored == 2
    retriever = Retriever(context, xtrace, embedding)
    (found,) = await retriever.search(await embedding.embed("Which animal is napping?"), 1, kb_id, rescore=2)
    assert found.text == CHUNKS[0]["chunk_content"]


def test_bits_fit_into_one_ciphertext() -> None:
    assert new_context(wordllama(bits=255)).embed_len() == 255
    most = max(d for d in range(256, 512) if 3**d <= 9 << 508)  # base 3 holds more
    assert new_context(wordllama(bits=most)).embed_len() == most
    with pytest.raises(
        InvalidArgument, match=f"{most + 1} bits do not fit into one ciphertext .* which holds at most {most}"
    ):
        new_context(wordllama(bits=most + 1))
    for bits in (0, 4097):
        with pytest.raises(InvalidArgument, match="bits"):
            wordllama(bits=bits)
    with pytest.raises(InvalidArgument, match=f"embedding_length is {DIM}, but the embedding has {BITS} bits"):
        new_context(wordllama(bits=BITS), DIM)


def test_a_projection_of_a_later_version_is_refused_by_name() -> None:
    for changed in ({"projection": "superbit-2"}, {"projection": None}, {"later": 1}):
        fresh = new_context(wordllama(bits=BITS))._keys
        secret = fresh.secret()
        secret["embedding"] |= changed
        with pytest.raises(InvalidContext, match="which this version does not support"):
            ContextKeys.load(fresh.public, secret)


# Prompts


def prompted(query: str = "query: ", passage: str = "passage: ") -> Embedding:
    return Embedding("wordllama", "l2_supercat", DIM, query_prompt=query, passage_prompt=passage)


async def test_prompts_are_part_of_what_a_context_remembers(xtrace: XTraceIntegration, kb_id: str) -> None:
    context = new_context(prompted())
    await context.save_to_remote(xtrace)
    restored = await ExecutionContext.load_from_remote(
        "passphrase", context.id, xtrace, insecure_allow_weak_encryption=True
    )
    assert restored.embedding_model == prompted().model
    for other in (wordllama(), prompted(query=""), prompted(passage="")):
        with pytest.raises(OtherModel, match=r"created for .*, query prompt 'query: ', passage prompt 'passage: '"):
            await DataLoader(restored, xtrace).load(CHUNKS, other, kb_id)
    await DataLoader(restored, xtrace).load(CHUNKS, None, kb_id)
    (found,) = await Retriever(restored, xtrace).search("Which animal is napping?", 1, kb_id)
    query = await wordllama().bin_embed("query: Which animal is napping?")
    stored = await wordllama().bin_embed(f"passage: {found.text}")
    assert found.text == CHUNKS[0]["chunk_content"]
    assert found.distance == int((query != stored).sum())


async def test_the_passage_prompt_is_in_the_names_of_chunks_and_the_query_prompt_is_not(
    xtrace: XTraceIntegration, kb_id: str
) -> None:
    loader = DataLoader(new_context(dim=DIM), xtrace)
    assert (await loader.load(CHUNKS, prompted(), kb_id)).stored == 2
    assert (await loader.load(CHUNKS, prompted(query="other: "), kb_id)).stored == 0
    assert (await loader.load(CHUNKS, prompted(passage="other: "), kb_id)).stored == 2
