"""Searching chunks with a retriever in the local index: what the service finds, filters included, and offline."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from support.collecting import Model as RecordModel
from support.collecting import toy_context
from support.watched import Watched
from xtrace_sdk import Collection, PassphraseKeyProvider, sync
from xtrace_sdk.errors import InvalidArgument, NotOnPrivateField
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.chunks.vectors import float_to_bits
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.local.folder import indexes
from xtrace_sdk.x_vec.retrievers.retriever import Retriever
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
from xtrace_server.credentials import Credentials

DIM, COUNT = 32, 40
FLOATS = np.random.default_rng(1).normal(size=(COUNT, DIM)).astype(np.float32)
QUERY = np.random.default_rng(2).normal(size=DIM).astype(np.float32)
CHUNKS = [
    {"chunk_content": f"invoice {4000 + i}", "meta_data": {"tag1": f"{i:02}", "tag2": "ab"[i % 2]}}
    for i in range(COUNT)
]


class Model:
    """Takes each text's vector from a table."""

    async def embed_many(self, texts: Sequence[str]) -> NDArray[np.float32]:
        numbers = [int(text.split()[1]) - 4000 if text.startswith("invoice") else -1 for text in texts]
        return np.array([QUERY if number < 0 else FLOATS[(number * 7) % COUNT] for number in numbers])

    async def bin_embed_many(self, texts: Sequence[str]) -> NDArray[np.uint8]:
        return float_to_bits(await self.embed_many(texts))


class BitsModel:
    """A model that returns nothing but bits."""

    async def bin_embed_many(self, texts: Sequence[str]) -> NDArray[np.uint8]:
        return await Model().bin_embed_many(texts)


def context_of(**more: Any) -> ExecutionContext:
    provider = PassphraseKeyProvider("passphrase", insecure_log2_n=1)
    return ExecutionContext.create(provider, "paillier_lookup", DIM, 256, insecure_allow_weak_parameters=True, **more)


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
    return context_of(private_metadata=["tag1"])


@pytest.fixture
async def kb(context: ExecutionContext, xtrace: XTraceIntegration) -> str:
    kb = (await xtrace.create_kb("chunks")).id
    await DataLoader(context, xtrace, vector_copy="int8").load(CHUNKS, list(FLOATS), kb)
    return kb


def expected(inside: Sequence[int], k: int = 5) -> list[str]:
    """The plain reference: exact cosines."""
    cosines = FLOATS @ QUERY / np.linalg.norm(FLOATS, axis=1)
    return [f"invoice {4000 + i}" for i in sorted(inside, key=lambda i: -cosines[i])[:k]]


@pytest.fixture
def local(context: ExecutionContext, xtrace: XTraceIntegration, tmp_path: Path) -> Retriever:
    return Retriever(context, xtrace, Model(), local_index="auto", local_folder=tmp_path)


async def test_the_index_finds_what_the_service_finds(local: Retriever, kb: str) -> None:
    evens = [i for i in range(COUNT) if i % 2 == 0]
    first, last = 3, 20
    for meta_filter, id_range, inside in (
        (None, None, range(COUNT)),
        ({"tag2": "a"}, None, evens),
        ({"tag1": {"$in": ["03", "05"]}}, None, [3, 5]),
        (None, (first + 1, last + 1), range(first, last + 1)),
    ):
        found, distances = {}, {}
        for mode in ("local", "service"):
            results = await local.search(QUERY, 5, kb, meta_filter, id_range, rescore=8, mode=mode)
            assert results.mode == mode
            found[mode] = [(one.chunk_id, one.text, one.meta_data, round(one.similarity or 0, 6)) for one in results]
            distances[mode] = np.array([one.distance for one in results])
        assert found["local"] == found["service"]
        assert [text for _, text, *_ in found["local"]] == expected(inside)
        assert abs(distances["local"] - distances["service"]).max() <= 2  # bits of copies that were rounded


async def test_private_fields_compare_in_every_way(local: Retriever, kb: str) -> None:
    found = await local.search(QUERY, 5, kb, {"tag1": {"$gte": "30"}}, rescore=8)
    assert [one.text for one in found] == expected(range(30, COUNT))
    with pytest.raises(NotOnPrivateField):
        await local.search(QUERY, 5, kb, {"tag1": {"$gte": "30"}}, mode="service")


async def test_words_and_offline_searches(local: Retriever, kb: str, watched: Watched) -> None:
    results = await local.search("invoice 4017", 3, kb)
    assert results[0].text == "invoice 4017"
    assert list(results.seconds) == ["embed", "synchronise", "scan", "fetch", "rescore"]
    watched.taken()
    watched.is_cut = True
    assert await local.search("invoice 4017", 3, kb, max_staleness=math.inf) == results
    by_vector = await local.search("the query", 5, kb, max_staleness=math.inf, hybrid=False)
    assert [one.text for one in by_vector] == expected(range(COUNT))
    assert watched.taken() == []


async def test_changes_of_metadata_and_deletions_are_found(
    local: Retriever,
    context: ExecutionContext,
    xtrace: XTraceIntegration,
    kb: str,
) -> None:
    (first, *_) = await local.search(QUERY, 5, kb, rescore=8)
    await xtrace.delete_chunks([first.chunk_id], kb)
    (second, third, *_) = await local.search(QUERY, 5, kb, rescore=8)
    assert [second.text, third.text] == expected(range(COUNT))[1:3]
    loader = DataLoader(context, xtrace, vector_copy="int8")
    await loader.patch_chunks([{"chunk_id": third.chunk_id, "meta_data": {"tag2": "new"}}], kb)
    (found,) = await local.search(QUERY, 5, kb, {"tag2": "new"})
    assert (found.text, found.meta_data["tag2"]) == (third.text, "new")


async def test_what_an_index_cannot_do_goes_to_the_service(
    local: Retriever,
    context: ExecutionContext,
    xtrace: XTraceIntegration,
    kb: str,
    tmp_path: Path,
) -> None:
    bits = float_to_bits(QUERY[None])[0]
    assert (await local.search(bits, 3, kb)).mode == "service"
    with pytest.raises(InvalidArgument, match="float vectors"):
        await local.search(bits, 3, kb, mode="local")
    by_bits = Retriever(context, xtrace, BitsModel(), local_index="auto", local_folder=tmp_path)
    assert (await by_bits.search("the query", 3, kb)).mode == "service"
    plain = Retriever(context, xtrace, Model())
    assert (await plain.search("the query", 3, kb)).mode == "service"
    for arguments, message in (({"mode": "local"}, "local_index"), ({"hybrid": True}, "hybrid=True")):
        with pytest.raises(InvalidArgument, match=message):
            await plain.search("the query", 3, kb, **arguments)
    with pytest.raises(InvalidArgument, match="max_staleness"):
        await local.search("the query", 3, kb, max_staleness=-1)


async def test_records_of_a_collection_are_searched_on_the_service(
    xtrace: XTraceIntegration,
    tmp_path: Path,
) -> None:
    context = toy_context()
    records = await Collection.open(xtrace, context, "records", embedding=RecordModel())
    await records.upsert([{"id": "a", "text": "A record."}])
    retriever = Retriever(context, xtrace, RecordModel(), local_index="auto", local_folder=tmp_path)
    results = await retriever.search("A record.", 1, records.kb_id)
    assert (results.mode, results[0].text) == ("service", "A record.")


async def test_clearing_removes_the_file(local: Retriever, kb: str, tmp_path: Path) -> None:
    await local.search(QUERY, 1, kb)
    assert len(indexes(tmp_path)) == 1
    await local.clear_local_index(kb)
    assert indexes(tmp_path) == []


def test_the_synchronous_twin(credentials: Credentials, tmp_path: Path) -> None:
    context = context_of()
    with sync.XTraceIntegration(
        credentials.org_id, credentials.api_key, credentials.admin_key, credentials.api_url
    ) as xtrace:
        kb = xtrace.create_kb("twin").id
        sync.DataLoader(context, xtrace, vector_copy="int8").load(CHUNKS, list(FLOATS), kb)
        retriever = sync.Retriever(context, xtrace, local_index="replica", local_folder=tmp_path)
        results = retriever.search(QUERY, 5, kb, mode="local", rescore=8)
        assert [one.text for one in results] == expected(range(COUNT))
