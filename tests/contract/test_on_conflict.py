"""Loads that meet what is stored already: left alone, replaced where it differs, or refused; by many at once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from support.forked import Account, forking
from support.loading import load
from support.server_process import ServerProcess
from xtrace_sdk.errors import InvalidArgument, NamesTaken
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.sync import DataLoader as SyncLoader
from xtrace_sdk.sync import XTraceIntegration as SyncIntegration
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader, LoadSummary
from xtrace_sdk.x_vec.retrievers.retriever import Retriever
from xtrace_sdk.x_vec.upkeep.rotation import rotate
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

DIM = 24
COUNT = 12
PROVIDER = PassphraseKeyProvider("passphrase", insecure_log2_n=1)


def new_context(path: Path | None = None) -> ExecutionContext:
    return ExecutionContext.create(
        PROVIDER, "paillier_lookup", DIM, 256, path=path, insecure_allow_weak_parameters=True
    )


@pytest.fixture(scope="module")
def context() -> ExecutionContext:
    return new_context()


COLLECTION: list[dict[str, Any]] = [
    {"chunk_content": f"text {i}", "meta_data": {"tag1": "a", "facets": ["x", "y"]}} for i in range(COUNT)
]


def vectors(seed: int = 1) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 2, (COUNT, DIM), dtype=np.uint8)


async def written(xtrace: XTraceIntegration, context: ExecutionContext, kb_id: str) -> dict[int, str]:
    """When each chunk was last written."""
    return {one["chunk_id"]: one["updated_at"] async for one in xtrace.iter_meta_search(kb_id, {}, context.id)}


async def test_skip_leaves_what_is_there(context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str) -> None:
    loader = DataLoader(context, xtrace)
    assert await loader.load(COLLECTION[:5], vectors()[:5], kb_id) == LoadSummary(inserted=5)
    before = await written(xtrace, context, kb_id)
    assert await loader.load(COLLECTION, vectors(2), kb_id) == LoadSummary(inserted=COUNT - 5, known=5)
    after = await written(xtrace, context, kb_id)
    assert {chunk_id: after[chunk_id] for chunk_id in before} == before


async def test_replace_writes_only_what_differs(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str
) -> None:
    loader = DataLoader(context, xtrace)
    await loader.load(COLLECTION[:10], vectors()[:10], kb_id)
    before = await written(xtrace, context, kb_id)
    changed = vectors()
    changed[[2, 7]] ^= 1
    await xtrace.patch_chunks(kb_id, context.id, [{"chunk_id": 5, "meta_data": {"tag1": "patched"}}])
    summary = await loader.load(COLLECTION, changed, kb_id, 4, on_conflict="replace")
    assert summary == LoadSummary(inserted=2, known=7, replaced=3)
    assert summary.stored == 5
    after = await written(xtrace, context, kb_id)
    assert {i for i in before if before[i] != after[i]} == {3, 5, 8}
    assert len(after) == COUNT
    retriever = Retriever(context, xtrace)
    for i in range(COUNT):
        (nearest,) = await retriever.search(changed[i], 1, kb_id)
        assert (nearest.text, nearest.distance) == (f"text {i}", 0)
    (five,) = await xtrace.get_chunk_by_id([5], kb_id, ["meta_data"])
    assert five["meta_data"]["tag1"] == "a"
    again = await loader.load(COLLECTION, changed, kb_id, on_conflict="replace")
    assert again == LoadSummary(known=COUNT)


async def test_fail_stores_nothing_of_the_batch(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str
) -> None:
    loader = DataLoader(context, xtrace)
    assert await loader.load(COLLECTION[4:6], vectors()[4:6], kb_id, on_conflict="fail") == LoadSummary(inserted=2)
    with pytest.raises(NamesTaken, match="2 of 4 chunks are stored already") as raised:
        await loader.load(COLLECTION, vectors(), kb_id, 4, on_conflict="fail")
    assert "4 chunks were stored" in raised.value.__notes__[0]
    with pytest.raises(NamesTaken):
        await loader.upsert_one(COLLECTION[4], vectors()[4], kb_id, on_conflict="fail")
    assert len(await written(xtrace, context, kb_id)) == 6


async def test_an_upsert_gives_a_known_text_its_new_vector(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str
) -> None:
    loader = DataLoader(context, xtrace)
    first = await loader.upsert_one(COLLECTION[0], vectors()[0], kb_id)
    before = await written(xtrace, context, kb_id)
    assert await loader.upsert_one(COLLECTION[0], vectors()[0], kb_id) == first
    assert await written(xtrace, context, kb_id) == before
    assert await loader.upsert_one(COLLECTION[0], vectors()[1], kb_id, on_conflict="skip") == first
    assert await written(xtrace, context, kb_id) == before
    assert await loader.upsert_one(COLLECTION[0], vectors()[1], kb_id) == first
    (found,) = await Retriever(context, xtrace).search(vectors()[1], 1, kb_id)
    assert (found.chunk_id, found.distance) == (first, 0)


async def test_replacing_during_a_rotation_moves_what_differs(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str, tmp_path: Path
) -> None:
    await DataLoader(context, xtrace).load(COLLECTION, vectors(), kb_id)
    new = context.successor(PROVIDER, path=tmp_path / "new", insecure_allow_weak_parameters=True)
    changed = vectors()
    changed[3] ^= 1
    loader = DataLoader(new, xtrace)
    assert await loader.load(COLLECTION, changed, kb_id, on_conflict="replace") == LoadSummary(
        known=COUNT - 1, replaced=1
    )
    assert set(await written(xtrace, new, kb_id)) == {4}
    await rotate(new, xtrace)
    assert await loader.load(COLLECTION, changed, kb_id, on_conflict="replace") == LoadSummary(known=COUNT)
    assert len(await written(xtrace, new, kb_id)) == COUNT


async def test_a_rotation_meets_the_same_chunk_loaded_under_the_new_context(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str, tmp_path: Path
) -> None:
    await DataLoader(context, xtrace).load(COLLECTION, vectors(), kb_id)
    new = context.successor(PROVIDER, path=tmp_path / "new", insecure_allow_weak_parameters=True)
    loader = DataLoader(new, xtrace)
    # As a client that looked the name up a moment before the other's load was stored.
    (name,) = ((await xtrace.get_chunk_by_id([5], kb_id, ["name"]))[0]["name"],)
    index, db = await loader.load_data_from_memory([COLLECTION[4]], [vectors()[4]])
    chunk = {"chunk_content": db[0]["chunk_content"], "meta_data": db[0]["meta_data"], "name": name}
    await xtrace.store_exec_context(new.public_data(), new.id)
    assert (await xtrace.insert_chunks(kb_id, [chunk], new.id, index=index, on_conflict="fail")).outcomes == [
        "inserted"
    ]
    assert (await rotate(new, xtrace)).total == COUNT
    assert set(await written(xtrace, new, kb_id)) == set(range(1, COUNT + 2))
    assert await loader.superseded(COLLECTION, kb_id) == [5]
    assert await loader.load(COLLECTION, vectors(), kb_id) == LoadSummary(known=COUNT)


async def test_a_chunk_given_twice_to_dump_db_is_stored_once(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str
) -> None:
    loader = DataLoader(context, xtrace)
    index, db = await loader.load_data_from_memory(COLLECTION[:2], list(vectors()[:2]))
    assert await loader.dump_db([*db, db[0]], [*index, index[0]], kb_id) == [1, 2, 1]


async def test_another_word_is_refused_before_anything_is_sent(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str
) -> None:
    with pytest.raises(InvalidArgument, match="on_conflict"):
        await xtrace.store_db([], [], kb_id, "ctx", on_conflict="overwrite")  # type: ignore[arg-type]


# Many at once


@pytest.mark.long
def test_loads_at_once_store_each_chunk_once(tmp_path: Path, unused_tcp_port_factory: Callable[[], int]) -> None:
    """Four threads with an integration each, and two processes, load the same 600 chunks by two servers of one file."""
    ports = [unused_tcp_port_factory() for _ in range(2)]
    servers = [ServerProcess(tmp_path / "data", port=port, shared=True) for port in ports]
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    for server in servers:
        server.start()
    credentials = servers[0].credentials
    path = tmp_path / "context"
    context = new_context(path)
    collection = [{"chunk_content": f"text {i}"} for i in range(600)]
    bits = np.zeros((600, DIM), dtype=np.uint8)
    with SyncIntegration(credentials.org_id, credentials.api_key, credentials.admin_key, urls[0]) as xtrace:
        kb_id = xtrace.create_kb("kb").id
    barrier = forking().Barrier(3)
    accounts = [Account.of(credentials, url) for url in urls]
    processes = [
        forking().Process(target=load, args=(account, str(path), kb_id, range(600), barrier)) for account in accounts
    ]
    for process in processes:
        process.start()
    barrier.wait(60)

    def load_here(url: str) -> LoadSummary:
        with SyncIntegration(credentials.org_id, credentials.api_key, api_url=url) as mine:
            return SyncLoader(context, mine).load(collection, bits, kb_id, 100)

    with ThreadPoolExecutor(4) as pool:
        loads = [pool.submit(load_here, url) for url in urls * 2]
        summaries = [one.result() for one in loads]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert all(one.inserted + one.known == 600 and one.replaced == 0 for one in summaries)
    with SyncIntegration(credentials.org_id, credentials.api_key, credentials.admin_key, urls[1]) as xtrace:
        assert xtrace.get_kb(kb_id).number_of_vectors == 600
        assert SyncLoader(context, xtrace).load(collection, bits, kb_id).known == 600
        assert len(xtrace.meta_search(kb_id, {}, context.id)) == 600
    for server in servers:
        assert server.terminate() == 0
