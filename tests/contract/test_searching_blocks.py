"""Searching chunks in blocks: exact, confirmed results, whatever happens to the chunks; and a service that lies."""

import asyncio
import warnings
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from contract.test_rotation import new_context, successor
from support.by_blocks import Change, Network, always_by_blocks, sealed, with_values
from support.hostile_table import noticed
from xtrace_core import block_frames
from xtrace_sdk.collection.collection import Collection
from xtrace_sdk.errors import ChangedSinceSearch, InvalidAnswer, InvalidRows
from xtrace_sdk.integrations.xtrace import Retries, XTraceIntegration
from xtrace_sdk.notices import NotSealed
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.data_loaders import sealing as loads
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.retrievers.retriever import Retriever
from xtrace_sdk.x_vec.stored.sealing import SealSummary, seal_chunks
from xtrace_sdk.x_vec.upkeep.rotation import rotate
from xtrace_server.credentials import Credentials

DIM = 16
COUNT = 40
VECTORS: NDArray[np.uint8] = np.random.default_rng(9).integers(0, 2, (3000, DIM), dtype=np.uint8)
QUICK = Retries(attempts=3, first_delay_s=0.001, longest_delay_s=0.001)
QUERY = VECTORS[2]


def chunks(count: int = COUNT) -> list[dict[str, Any]]:
    return [{"chunk_content": f"text {i}", "meta_data": {"tag1": f"t{i % 3}"}} for i in range(count)]


def nearest(query: NDArray[np.uint8], k: int, vectors: dict[int, NDArray[np.uint8]]) -> list[tuple[int, int]]:
    """The right answer: the distances and ids of the nearest chunks."""
    return sorted((int((vector != query).sum()), chunk_id) for chunk_id, vector in vectors.items())[:k]


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
async def xtrace(credentials: Credentials, network: Network) -> AsyncIterator[XTraceIntegration]:
    one = credentials
    async with XTraceIntegration(
        one.org_id, one.api_key, one.admin_key, one.api_url, transport=network, retries=QUICK
    ) as integration:
        yield integration


@dataclass
class Stored:
    """A knowledge base with chunks 1 to 40, of which 1 to 15 and 20 to 32 are in blocks."""

    context: ExecutionContext
    xtrace: XTraceIntegration
    kb_id: str
    vectors: dict[int, NDArray[np.uint8]]
    blocks: list[int]

    def retriever(self) -> Retriever:
        return Retriever(self.context, self.xtrace)

    async def expect_exact(self, retriever: Retriever | None = None, **options: Any) -> None:
        """Searches by blocks, and compares ids, distances and texts with the right ones."""
        retriever = retriever or self.retriever()
        for query in VECTORS[5:7]:
            found = await retriever.search(query, 6, self.kb_id, **options)
            assert found.plan is not None
            assert found.plan.way == "blocks"
            assert [(one.distance, one.chunk_id) for one in found] == nearest(query, 6, self.vectors)


@pytest.fixture
async def stored(xtrace: XTraceIntegration, kb_id: str, monkeypatch: pytest.MonkeyPatch) -> Stored:
    always_by_blocks(monkeypatch)
    context = new_context("lattice", DIM)
    await DataLoader(context, xtrace).load(chunks(), list(VECTORS[:COUNT]), kb_id)
    blocks = [await sealed(context, xtrace, kb_id, ids) for ids in (range(1, 16), range(20, 33))]
    return Stored(context, xtrace, kb_id, {i + 1: VECTORS[i] for i in range(COUNT)}, blocks)


# Results


async def test_a_large_load_is_sealed_and_searched_by_blocks_because_that_takes_fewer_bytes(
    xtrace: XTraceIntegration, kb_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = new_context("lattice", DIM)
    count = len(VECTORS)
    monkeypatch.setattr(loads, "FIRST_ROWS", 2048)
    await DataLoader(context, xtrace).load(chunks(count), list(VECTORS), kb_id)
    assert await seal_chunks(context, xtrace, kb_id, first_rows=1) == SealSummary(left=count - 2048)
    retriever = Retriever(context, xtrace)
    vectors = {i + 1: vector for i, vector in enumerate(VECTORS)}
    found = await retriever.search(QUERY, 7, kb_id)
    assert found.plan is not None
    assert (found.plan.way, found.plan.candidates) == ("blocks", count)
    assert found.plan.blocks_bytes is not None
    assert found.plan.blocks_bytes < found.plan.records_bytes
    assert [(one.distance, one.chunk_id) for one in found] == nearest(QUERY, 7, vectors)
    assert [one.text for one in found] == [f"text {one.chunk_id - 1}" for one in found]
    listed = (await xtrace.plan_blocks(kb_id, context.id, listed=True)).listed
    assert listed
    remade = await seal_chunks(context, xtrace, kb_id, first_rows=1, remake=[listed[0].id, 10**9])
    assert remade == SealSummary(blocks=1, sealed=1024, removed=1, left=count - 2048)
    few = await retriever.search(QUERY, 2, kb_id, {"tag1": "t1"}, (1, 100))
    assert few.plan is not None
    assert few.plan.way == "records"


@pytest.mark.full
@pytest.mark.long
@pytest.mark.sqlite  # over one database: the claim is the client's
async def test_thirty_thousand_chunks_are_sealed_by_loading_and_searched_by_blocks_by_default(
    xtrace: XTraceIntegration, kb_id: str
) -> None:
    context, count = new_context("lattice", 512), 30_000
    vectors = np.random.default_rng(10).integers(0, 2, (count, 512), dtype=np.uint8)
    await DataLoader(context, xtrace).load(chunks(count), list(vectors), kb_id, 2000)
    retriever, exact = Retriever(context, xtrace), {i + 1: vector for i, vector in enumerate(vectors)}
    for query in (vectors[7] ^ (np.arange(512) % 9 == 0), 1 - vectors[8]):
        found = await retriever.search(query, 5, kb_id)
        assert found.plan is not None
        assert found.plan.way == "blocks"
        assert [(one.distance, one.chunk_id) for one in found] == nearest(query, 5, exact)


async def test_filters_ranges_and_batches_find_what_they_find_without_blocks(stored: Stored) -> None:
    await stored.expect_exact()
    retriever = stored.retriever()
    some = {i: vector for i, vector in stored.vectors.items() if i % 3 == 2 and 9 <= i <= 35}
    found = await retriever.search(QUERY, 5, stored.kb_id, {"tag1": "t1"}, (9, 35))
    assert [(one.distance, one.chunk_id) for one in found] == nearest(QUERY, 5, some)
    queries = list(VECTORS[100:110])
    for query, (ids, scores) in zip(queries, await retriever.nn_search_batch(queries, 4, stored.kb_id), strict=True):
        assert list(zip(scores, ids, strict=True)) == nearest(query, 4, stored.vectors)
    assert await retriever.search(QUERY, 3, stored.kb_id, {"tag1": "none"}) == []
    assert len(await retriever.search(QUERY, 99, stored.kb_id)) == COUNT


async def test_changes_and_deletions_are_seen_by_the_next_search(stored: Stored) -> None:
    loader, retriever = DataLoader(stored.context, stored.xtrace), stored.retriever()
    await stored.expect_exact(retriever)
    await loader.update_chunks([{**chunks()[4], "chunk_id": 5}], [1 - VECTORS[4]], stored.kb_id)
    await loader.delete_chunks([6, 25, 40], stored.kb_id)
    await loader.patch_chunks([{"chunk_id": 7, "meta_data": {"tag2": "new"}}], stored.kb_id)
    stored.vectors |= {5: 1 - VECTORS[4]}
    for gone in (6, 25, 40):
        del stored.vectors[gone]
    await stored.expect_exact(retriever)
    assert await seal_chunks(stored.context, stored.xtrace, stored.kb_id, erase_after_days=0) == SealSummary(
        removed=2, left=37
    )
    assert (await stored.retriever().search(QUERY, 3, stored.kb_id)).plan is not None


async def test_a_rotation_with_blocks_under_either_context_misses_nothing(stored: Stored, tmp_path: Path) -> None:
    new = successor(stored.context, tmp_path / "new.json")
    for query in VECTORS[5:7]:
        found = await Retriever(new, stored.xtrace).search(query, 6, stored.kb_id)
        assert [(one.distance, one.chunk_id) for one in found] == nearest(query, 6, stored.vectors)
    await rotate(new, stored.xtrace)
    stored.context = new
    stored.blocks = [await sealed(new, stored.xtrace, stored.kb_id, range(1, 31))]
    await stored.expect_exact()


async def test_private_metadata_and_collections_work_over_blocks(
    xtrace: XTraceIntegration, kb_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    always_by_blocks(monkeypatch)
    context = new_context("lattice", DIM, private_metadata=["tag1"])
    await DataLoader(context, xtrace).load(chunks(), list(VECTORS[:COUNT]), kb_id)
    await sealed(context, xtrace, kb_id, range(1, 31))
    found = await Retriever(context, xtrace).search(QUERY, 4, kb_id, {"tag1": "t2"})
    vectors = {i + 1: VECTORS[i] for i in range(COUNT) if i % 3 == 2}
    assert [(one.distance, one.chunk_id) for one in found] == nearest(QUERY, 4, vectors)
    assert {one.meta_data["tag1"] for one in found} == {"t2"}

    records = await Collection.open(xtrace, new_context("lattice", DIM), "records", vector_copy=None)
    written = [{"id": str(i), "text": f"text {i}", "metadata": {"n": i}, "vector": VECTORS[i]} for i in range(COUNT)]
    await records.upsert(written)
    ids = [chunk["chunk_id"] for chunk in await xtrace.meta_search(records.kb_id, {}, records._context.id)]
    await sealed(records._context, xtrace, records.kb_id, sorted(ids)[1:31])
    hits = await records.search(QUERY, 5, where={"n": {"$lt": 30}})
    assert hits.plan is not None
    assert hits.plan.way == "blocks"
    right = sorted((int((VECTORS[i] != QUERY).sum()), i) for i in range(30))[:5]
    assert sorted((hit.distance, int(hit.record.id)) for hit in hits) == right


async def test_writes_of_a_collection_during_its_own_searches_are_no_attack(
    xtrace: XTraceIntegration, monkeypatch: pytest.MonkeyPatch
) -> None:
    always_by_blocks(monkeypatch)
    records = await Collection.open(xtrace, new_context("lattice", DIM), "records", vector_copy=None)
    written = [{"id": str(i), "text": f"text {i}", "vector": VECTORS[i]} for i in range(COUNT)]
    await records.upsert(written)
    ids = [chunk["chunk_id"] for chunk in await xtrace.meta_search(records.kb_id, {}, records._context.id)]
    await sealed(records._context, xtrace, records.kb_id, sorted(ids)[1:31])

    async def search() -> None:
        for _ in range(4):
            assert len(await records.search(QUERY, 3)) == 3

    async def write() -> None:
        for i in range(8):
            await records.upsert([{**written[2], "vector": VECTORS[50 + i]}])

    await asyncio.gather(search(), write())


async def test_decoys_are_fetched_and_confirmed_as_what_was_found(stored: Stored, network: Network) -> None:
    retriever = stored.retriever()
    found = await retriever.search(QUERY, 2, stored.kb_id, decoys=5)
    assert [(one.distance, one.chunk_id) for one in found] == nearest(QUERY, 2, stored.vectors)
    (asked,) = {path for method, path, _ in network.sent[-1:] if method == "GET"}
    assert asked.count("chunk_ids=") == 7
    assert "projection=index" in asked
    network.change["/block/search"], network.ahead_s = with_values(lambda _, values: values + 8), 10
    with pytest.raises(InvalidRows) as raised:  # all decoys and all that was found
        await retriever.search(QUERY, 2, stored.kb_id, decoys=5)
    assert raised.value.count > 2


async def test_a_client_that_accepts_only_small_answers_reads_records_piece_by_piece(
    stored: Stored, credentials: Credentials
) -> None:
    one = credentials
    async with XTraceIntegration(one.org_id, one.api_key, one.admin_key, one.api_url, max_answer_bytes=12_000) as small:
        found = await Retriever(stored.context, small).search(QUERY, 3, stored.kb_id)
    assert found.plan is None
    assert [(one.distance, one.chunk_id) for one in found] == nearest(QUERY, 3, stored.vectors)


# What the service sees


async def test_requests_do_not_depend_on_the_query(stored: Stored, network: Network) -> None:
    seen = []
    for query in (QUERY, 1 - QUERY, VECTORS[70]):
        network.sent.clear()
        await stored.retriever().nn_search_for_ids(query, 3, stored.kb_id)
        asked = []
        for method, path, body in network.sent:
            if path.endswith("/block/search"):
                searched = msgspec.msgpack.decode(body)
                (sent,) = searched.pop("queries")
                body = msgspec.msgpack.encode([searched, len(sent)])
            asked.append((method, path, body))
        seen.append(asked)
    assert [path.partition("?")[0].rpartition("/v1/")[2] for _, path, _ in seen[0]] == [
        "block/plan",
        "block/search",
        "block",
    ]
    assert seen[0] == seen[1] == seen[2]


async def test_hints_are_fetched_once(stored: Stored, network: Network) -> None:
    retriever = stored.retriever()
    for query in VECTORS[:3]:
        await retriever.nn_search_for_ids(query, 3, stored.kb_id)
    network.sent = [one for one in network.sent if one[0] == "GET"]
    (asked,) = network.bodies("/block")
    assert asked.count(b"block_ids=") == 2


async def test_every_attempt_has_another_query(stored: Stored, network: Network) -> None:
    network.fails["/block/search"] = 2
    await stored.expect_exact()
    queries = [msgspec.msgpack.decode(body)["queries"][0] for body in network.bodies("/block/search")]
    assert len(queries) == len(set(queries)) == 4


async def test_blocks_that_are_replaced_during_a_search_make_it_begin_again_with_another_query(
    stored: Stored, network: Network
) -> None:
    answers = 0

    def gone(data: bytes) -> bytes:
        nonlocal answers
        answers += 1
        return b"" if answers == 1 else data

    network.change["/block"] = gone
    await stored.expect_exact()
    assert len(set(network.bodies("/block/search"))) == 3


# A service that lies


def replayed() -> Change:
    kept: list[bytes] = []

    def change(data: bytes) -> bytes:
        kept.append(data)
        return kept[0]

    return change


def flipped(position: int) -> Change:
    return lambda data: data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


def with_ids(data: bytes, chunk_id: Callable[[int], int]) -> bytes:
    """Blocks of other chunks."""
    return b"".join(
        block_frames.fetched(
            one.block_id, one.header, block_frames.packed_ids([chunk_id(i) for i in one.chunk_ids.tolist()]), one.hints
        )
        for one in block_frames.read_fetched(data, 7680)
    )


def with_fewer_ids(data: bytes) -> bytes:
    """The last slot of each block has no chunk."""
    return b"".join(
        block_frames.fetched(one.block_id, one.header, block_frames.packed_ids(one.chunk_ids.tolist()[:-1]), one.hints)
        for one in block_frames.read_fetched(data, 7680)
    )


def exchanged_ids(data: bytes) -> bytes:
    """Chunk 15, the last of the first block, for chunk 20, the first of the second."""
    other = {15: 20, 20: 15}
    return with_ids(data, lambda i: other.get(i, i))


noticed(
    "changes a value of a block of vectors by the distance between two answers, or exchanges the chunks of two slots",
    InvalidRows,
    ChangedSinceSearch,
)
noticed("changes a value of a block by less, or answers with the values of another query or block", InvalidAnswer)
noticed(
    "changes the header or the hints of a block, gives it fewer chunks than slots, or one of another knowledge base",
    InvalidAnswer,
)
noticed("answers for a chunk in two blocks, or in a block and in none", InvalidAnswer)
noticed("cuts an answer about blocks off, or announces other numbers than come", InvalidAnswer)
LIES: dict[str, tuple[str, Change, type[Exception]]] = {
    "another header": ("/block", flipped(8 + 20), InvalidAnswer),
    "another tag": ("/block", flipped(8 + 100), InvalidAnswer),
    "other hints": ("/block", flipped(-100), InvalidAnswer),
    "exchanged chunks": ("/block", exchanged_ids, InvalidRows),
    "a chunk in a block and in none": (
        "/block",
        lambda data: with_ids(data, lambda i: 16 if i == 15 else i),
        InvalidAnswer,
    ),
    "a chunk in two blocks": ("/block", lambda data: with_ids(data, lambda i: 20 if i == 15 else i), InvalidAnswer),
    "fewer chunks than slots": ("/block", with_fewer_ids, InvalidAnswer),
    "blocks that are cut off": ("/block", lambda data: data[:-1], InvalidAnswer),
    "half a gap": ("/block/search", with_values(lambda _, values: values + 4), InvalidAnswer),
    "no values": ("/block/search", with_values(lambda _, values: 0 * values), InvalidAnswer),
    "shifted values": ("/block/search", with_values(lambda _, values: values + 8), InvalidRows),
    "exchanged values": ("/block/search", with_values(lambda _, values: values[:, ::-1]), InvalidAnswer),
    "an answer that is cut off": ("/block/search", lambda data: data[:-3], InvalidAnswer),
    "an answer without its records": ("/block/search", lambda data: data[:-60], InvalidAnswer),
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_lie_about_blocks_is_noticed_and_nothing_is_tried_again(
    lie: str, stored: Stored, network: Network
) -> None:
    path, change, error = LIES[lie]
    network.change[path], network.ahead_s = change, 10
    with pytest.raises(error):
        await stored.retriever().search(QUERY, COUNT, stored.kb_id)
    assert len(network.bodies("/block/search")) == 1


async def test_a_block_of_another_knowledge_base_is_refused(stored: Stored, network: Network) -> None:
    scheme = stored.context.homomorphic.blocks
    assert scheme is not None
    other = scheme.seal(VECTORS[:15], "another knowledge base")
    network.change["/block"] = lambda data: b"".join(
        block_frames.fetched(
            one.block_id, other.header, block_frames.packed_ids(one.chunk_ids.tolist()[:15]), other.hints
        )
        for one in block_frames.read_fetched(data, 7680)
    )
    with pytest.raises(InvalidAnswer, match="did not seal for this knowledge base"):
        await stored.retriever().search(QUERY, 3, stored.kb_id)


async def test_an_answer_to_an_earlier_query_is_noticed(stored: Stored, network: Network) -> None:
    network.change["/block/search"] = replayed()
    retriever = stored.retriever()
    await retriever.search(QUERY, 3, stored.kb_id)
    with pytest.raises(InvalidAnswer):
        await retriever.search(QUERY, 3, stored.kb_id)


async def test_a_chunk_that_others_change_after_the_search_is_said_to_be_changed(stored: Stored) -> None:
    retriever = stored.retriever()
    ids = await retriever.nn_search_for_ids(QUERY, 1, stored.kb_id)
    assert ids == [3]
    change = {**chunks()[2], "chunk_id": 3}
    await DataLoader(stored.context, stored.xtrace).update_chunks([change], [1 - QUERY], stored.kb_id)
    with pytest.raises(ChangedSinceSearch) as raised:
        await retriever.retrieve_and_decrypt(ids, stored.kb_id)
    assert raised.value.chunk_id == 3
    with pytest.raises(ChangedSinceSearch):
        await retriever.retrieve_and_decrypt(ids, stored.kb_id, ["meta_data"])


# Sealing


async def test_several_sealers_at_once_seal_each_chunk_once(xtrace: XTraceIntegration, kb_id: str) -> None:
    context = new_context("lattice", DIM)
    await DataLoader(context, xtrace).load(chunks(3000), list(VECTORS), kb_id)
    done = await asyncio.gather(*(seal_chunks(context, xtrace, kb_id, first_rows=1024) for _ in range(3)))
    plan = await xtrace.plan_blocks(kb_id, context.id, listed=True)
    assert sum(one.sealed for one in done) == plan.candidates - plan.unsealed
    assert sum(one.blocks for one in done) == plan.blocks
    ids = await Retriever(context, xtrace).nn_search_for_ids(QUERY, 3000, kb_id)
    assert sorted(ids) == list(range(1, 3001))


async def test_a_load_that_cannot_be_sealed_is_stored_and_says_so(
    xtrace: XTraceIntegration, kb_id: str, network: Network
) -> None:
    network.change["/block/plan"] = lambda data: b"{}"
    context = new_context("lattice", DIM)
    with pytest.warns(NotSealed, match="everything is stored, but not sealed"):
        summary = await DataLoader(context, xtrace).load(chunks(), list(VECTORS[:COUNT]), kb_id)
    assert summary.stored == COUNT
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        await DataLoader(new_context("paillier_lookup", DIM), xtrace).load(chunks(3), list(VECTORS[:3]), kb_id)
