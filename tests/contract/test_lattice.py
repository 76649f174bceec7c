"""The scheme `lattice` over a service whose rows were exchanged, cut or moved, and what a search under it sends."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import numpy as np
import pytest

from contract.test_rotation import collection, new_context, vectors
from xtrace_sdk.errors import CiphertextRefused, InvalidRows
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.retrievers.retriever import Retriever
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
from xtrace_server.credentials import Credentials

pytestmark = pytest.mark.usefixtures("database")

DIM = 40
COUNT = 8
WIDTH = 32


class Kept(httpx2.AsyncBaseTransport):
    """The network, with the body of each search kept."""

    def __init__(self) -> None:
        self._network = httpx2.AsyncHTTPTransport()
        self.searches: list[bytes] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if "/compute_hamming" in request.url.path:
            self.searches.append(await request.aread())
        return await self._network.handle_async_request(request)

    async def aclose(self) -> None:
        await self._network.aclose()


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
async def xtrace(credentials: Credentials, kept: Kept) -> AsyncIterator[XTraceIntegration]:
    one = credentials
    async with XTraceIntegration(one.org_id, one.api_key, one.admin_key, one.api_url, transport=kept) as integration:
        yield integration


@pytest.fixture
async def context(xtrace: XTraceIntegration, kb_id: str) -> ExecutionContext:
    """A context with chunks 1 to 8."""
    context = new_context("lattice", DIM)
    loader = DataLoader(context, xtrace)
    index, db = await loader.load_data_from_memory(collection(COUNT), list(vectors(COUNT, DIM)))
    assert await loader.dump_db(db, index, kb_id) == list(range(1, COUNT + 1))
    return context


async def stored(xtrace: XTraceIntegration, kb_id: str, chunk_id: int) -> dict[str, Any]:
    (chunk,) = await xtrace.get_chunk_by_id([chunk_id], kb_id, projection=["index", "nonce"])
    return {"index": chunk["index"], "nonce": chunk["nonce"]}


async def test_every_search_sends_the_same_bytes(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str, kept: Kept
) -> None:
    retriever = Retriever(context, xtrace)
    for query in vectors(5, DIM):
        assert len(await retriever.nn_search_for_ids(query, 3, kb_id)) == 3
    assert len(kept.searches) == 5
    assert len(set(kept.searches)) == 1
    await retriever.nn_search_batch(list(vectors(4, DIM)), 3, kb_id)
    await retriever.nn_search_batch(list(1 - vectors(4, DIM)), 3, kb_id)
    assert len(set(kept.searches[5:])) == 1


@pytest.mark.parametrize(
    "change", ["of another chunk", "of another nonce", "cut", "changed in its last byte", "of zeros"]
)
async def test_a_record_that_is_not_the_chunks_own_fails_the_search_and_names_the_chunk(
    change: str, context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str
) -> None:
    one, other = await stored(xtrace, kb_id, 3), await stored(xtrace, kb_id, 5)
    record = one["index"][0]
    changed = {
        "of another chunk": {**one, "index": other["index"]},
        "of another nonce": {**one, "nonce": other["nonce"]},
        "cut": {**one, "index": [record[:17]]},
        "changed in its last byte": {**one, "index": [record[:-1] + bytes([record[-1] ^ 1])]},
        "of zeros": {**one, "index": [b"\0"]},
    }[change]
    await xtrace.patch_chunks(kb_id, context.id, [{"chunk_id": 3, **changed}])
    for query in (np.zeros(DIM, dtype=np.uint8), vectors(COUNT, DIM)[2]):
        with pytest.raises(InvalidRows) as raised:
            await Retriever(context, xtrace).nn_search_for_ids(query, 3, kb_id)
        assert raised.value.chunk_ids == [3]


@pytest.mark.parametrize("index", [[b"x" * (WIDTH + 1)], [b"x", b"y"]])
async def test_the_service_stores_no_other_index(
    index: list[bytes], context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str
) -> None:
    patch = {"chunk_id": 3, "index": index, "nonce": bytes(16)}
    with pytest.raises(CiphertextRefused, match="record"):
        await xtrace.patch_chunks(kb_id, context.id, [patch])
