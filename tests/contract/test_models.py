"""A context remembers the model that its vectors are from: no other one is taken, and none needs to be given."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from xtrace_sdk.errors import InvalidArgument, OtherModel
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.inference.embedding import Embedding
from xtrace_sdk.x_vec.inference.model import EmbeddingModel
from xtrace_sdk.x_vec.retrievers.retriever import Retriever
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
from xtrace_server.credentials import Credentials

DIM = 64
CHUNKS = [{"chunk_content": "The cat is asleep on the sofa."}, {"chunk_content": "The invoice is due in March."}]


def wordllama(model_name: str = "l2_supercat", dim: int = DIM) -> Embedding:
    return Embedding("wordllama", model_name, dim)


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
    with pytest.raises(InvalidArgument, match="the context remembers none"):
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
