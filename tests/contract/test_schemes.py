"""One suite over every scheme: what users do with chunks works alike, whatever is stored and whatever is answered.

The scheme `plain` of the tests encrypts nothing, has no primes, sends queries without ciphertexts and gets the stored
rows as its answers: what fails under it as well is a fault of search, and not of cryptography.
"""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from support.plain_scheme import NAME, PlainClient
from support.schemes import SCHEMES as REAL_SCHEMES
from support.schemes import key_len
from support.service import LiveService, running_service
from xtrace_sdk import (
    DataLoader,
    ExecutionContext,
    PassphraseKeyProvider,
    Retriever,
    XTraceIntegration,
    rotate,
    verify,
)
from xtrace_sdk.errors import ChangedSinceSearch, InvalidArgument, InvalidRows
from xtrace_sdk.x_vec.schemes import registry
from xtrace_server.credentials import Credentials

pytestmark = pytest.mark.usefixtures("database")

SCHEMES = (*REAL_SCHEMES, NAME)
DIM = 40
COUNT = 30


@pytest.fixture(autouse=True)
def plain_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.SCHEMES, NAME, PlainClient)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    folder = tmp_path_factory.mktemp("schemes")
    with running_service(folder, insecure_schemes="support.plain_scheme:SCHEMES") as running:
        yield running


@pytest.fixture(scope="module")
def credentials(service: LiveService) -> Credentials:
    return service.new_organisation()


def provider() -> PassphraseKeyProvider:
    return PassphraseKeyProvider("a passphrase of the tests", insecure_log2_n=4)


def new_context(scheme: str, **options: Any) -> ExecutionContext:
    return ExecutionContext.create(
        provider(),
        scheme,
        DIM,
        key_len(scheme),
        insecure_allow_weak_parameters=True,
        **options,
    )


def vectors(count: int, seed: int = 1) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, DIM)).astype(np.float32)


def chunks(count: int) -> list[dict[str, Any]]:
    return [
        {
            "chunk_content": f"text {i}",
            "meta_data": {"tag1": f"user_{i % 3}", "facets": ["even" if i % 2 == 0 else "odd"]},
        }
        for i in range(count)
    ]


@dataclass
class Stock:
    """A knowledge base with chunks of known vectors."""

    scheme: str
    xtrace: XTraceIntegration
    context: ExecutionContext
    kb_id: str
    floats: NDArray[np.float32]

    @property
    def bits(self) -> NDArray[np.bool_]:
        return self.floats > 0

    @property
    def loader(self) -> DataLoader:
        return DataLoader(self.context, self.xtrace)

    @property
    def retriever(self) -> Retriever:
        return Retriever(self.context, self.xtrace)

    def nearest(self, query: NDArray[np.float32], k: int, among: list[int] | None = None) -> list[tuple[int, int]]:
        """`(id, distance)` as a plain comparison finds them; chunk i has the id i + 1."""
        ids = range(1, len(self.floats) + 1) if among is None else among
        distances = [(int(np.count_nonzero(self.bits[i - 1] != (query > 0))), i) for i in ids]
        return [(i, distance) for distance, i in sorted(distances)[:k]]


@pytest.fixture(params=SCHEMES)
async def stock(request: pytest.FixtureRequest, credentials: Credentials) -> AsyncIterator[Stock]:
    async with XTraceIntegration(
        credentials.org_id, credentials.api_key, api_url=credentials.api_url, admin_key=credentials.admin_key
    ) as xtrace:
        kb_id = (await xtrace.create_kb(f"{request.param} chunks")).id
        stock = Stock(request.param, xtrace, new_context(request.param), kb_id, vectors(COUNT))
        await stock.loader.load(chunks(COUNT), list(stock.floats), kb_id)
        yield stock


async def test_a_search_finds_what_a_plain_comparison_finds(stock: Stock) -> None:
    for query in vectors(3, seed=2):
        found = await stock.retriever.search(query, 5, stock.kb_id)
        assert [(one.chunk_id, one.distance) for one in found] == stock.nearest(query, 5)
        assert [one.text for one in found] == [f"text {one.chunk_id - 1}" for one in found]


async def test_several_queries_of_one_search_are_answered_each(stock: Stock) -> None:
    queries = vectors(5, seed=3)
    found = await stock.retriever.nn_search_batch(list(queries), 4, stock.kb_id)
    for query, (ids, distances) in zip(queries, found, strict=True):
        assert list(zip(ids, distances, strict=True)) == stock.nearest(query, 4)


async def test_filters_and_ranges_bound_a_search(stock: Stock) -> None:
    query = vectors(1, seed=4)[0]
    some = [i for i in range(1, COUNT + 1) if (i - 1) % 3 == 1 and 5 <= i <= 25]
    found = await stock.retriever.nn_search_for_ids(
        query, 4, stock.kb_id, range_filter=(5, 25), include_scores=True, meta_filter={"tag1": "user_1"}
    )
    assert list(zip(*found, strict=True)) == stock.nearest(query, 4, some)
    nothing = await stock.retriever.nn_search_for_ids(query, 4, stock.kb_id, meta_filter={"tag1": "nobody"})
    assert nothing == []


async def test_a_second_load_stores_only_what_is_new(stock: Stock) -> None:
    floats = vectors(COUNT + 4, seed=1)
    floats[:COUNT] = stock.floats
    summary = await stock.loader.load(chunks(COUNT + 4), list(floats), stock.kb_id)
    assert (summary.stored, summary.known) == (4, COUNT)
    assert await stock.loader.superseded(chunks(COUNT), stock.kb_id) == [COUNT + 1, COUNT + 2, COUNT + 3, COUNT + 4]


async def test_rescoring_orders_by_the_copies(stock: Stock) -> None:
    kb_id = (await stock.xtrace.create_kb("copies")).id
    loader = DataLoader(stock.context, stock.xtrace, vector_copy="float32")
    await loader.load(chunks(COUNT), list(stock.floats), kb_id)
    query = vectors(1, seed=5)[0]
    found = await stock.retriever.search(query, 3, kb_id, rescore=COUNT)
    norms = np.linalg.norm(stock.floats, axis=1) * np.linalg.norm(query)
    best = np.argsort(-(stock.floats @ query) / norms)[:3] + 1
    assert [one.chunk_id for one in found] == best.tolist()


async def test_chunks_are_replaced_changed_and_deleted(stock: Stock) -> None:
    query = -stock.floats[0]
    await stock.loader.update_chunks([{"chunk_id": 1, "chunk_content": "replaced"}], [query], stock.kb_id)
    await stock.loader.patch_chunks([{"chunk_id": 2, "meta_data": {"tag1": "changed"}}], stock.kb_id)
    await stock.loader.delete_chunks([3], stock.kb_id)
    found = await stock.retriever.search(query, 1, stock.kb_id)
    assert [(one.chunk_id, one.text, one.distance) for one in found] == [(1, "replaced", 0)]
    changed = await stock.retriever.search(query, COUNT, stock.kb_id, meta_filter={"tag1": "changed"})
    assert [one.chunk_id for one in changed] == [2]
    everything, _ = await stock.retriever.nn_search_for_ids(query, COUNT, stock.kb_id, include_scores=True)
    assert sorted(everything) == [1, 2, *range(4, COUNT + 1)]


async def test_private_metadata_is_filtered_and_changed(stock: Stock) -> None:
    context, kb_id = new_context(stock.scheme, private_metadata=["tag1"]), (await stock.xtrace.create_kb("private")).id
    loader, retriever = DataLoader(context, stock.xtrace), Retriever(context, stock.xtrace)
    await loader.load(chunks(COUNT), list(stock.floats), kb_id)
    await loader.patch_chunks_by_meta({"tag1": "user_2"}, {"tag1": "user_9"}, kb_id)
    found = await retriever.search(stock.floats[0], COUNT, kb_id, meta_filter={"tag1": "user_9"})
    assert sorted(one.chunk_id for one in found) == [i for i in range(1, COUNT + 1) if (i - 1) % 3 == 2]
    assert {one.meta_data["tag1"] for one in found} == {"user_9"}


async def test_a_changed_row_fails_the_search_and_is_listed(stock: Stock) -> None:
    other = stock.context.homomorphic.encrypt_vec_one(1 - stock.bits[4].astype(np.uint8))
    nonce = (await stock.xtrace.get_chunk_by_id([5], stock.kb_id, projection=["nonce"]))[0]["nonce"]
    patch = {"chunk_id": 5, "index": other.ciphertexts(), "nonce": nonce}
    await stock.xtrace.patch_chunks(stock.kb_id, stock.context.id, [patch])
    with pytest.raises(InvalidRows) as raised:
        await stock.retriever.search(stock.floats[0], 3, stock.kb_id)
    assert raised.value.chunk_ids == [5]
    result = await verify(stock.context, stock.xtrace, stock.kb_id)
    assert [one.chunk_id for one in result.bad] == [5]


async def test_a_content_of_another_chunk_is_noticed(stock: Stock) -> None:
    ids = await stock.retriever.nn_search_for_ids(stock.floats[6], 1, stock.kb_id)
    assert ids == [7]
    retriever = stock.retriever
    await retriever.nn_search_for_ids(stock.floats[6], 1, stock.kb_id)
    other = (await stock.xtrace.get_chunk_by_id([8], stock.kb_id, projection=["chunk_content", "nonce"]))[0]
    patch = {"chunk_id": 7, "chunk_content": other["chunk_content"], "nonce": other["nonce"]}
    await stock.xtrace.patch_chunks(stock.kb_id, stock.context.id, [patch])
    with pytest.raises(ChangedSinceSearch):
        await retriever.retrieve_and_decrypt([7], stock.kb_id)


@pytest.mark.parametrize("target", SCHEMES)
async def test_a_rotation_moves_every_chunk_to_any_scheme(stock: Stock, target: str, tmp_path: Path) -> None:
    new = stock.context.successor(
        provider(), target, key_len(target), tmp_path / "new.json", insecure_allow_weak_parameters=True
    )
    query = vectors(1, seed=6)[0]
    retriever = Retriever(new, stock.xtrace)
    before = await retriever.search(query, 5, stock.kb_id)
    assert [(one.chunk_id, one.distance) for one in before] == stock.nearest(query, 5)
    summary = await rotate(new, stock.xtrace, remove_old=True)
    assert (summary.total, summary.removed_old) == (COUNT, True)
    after = await Retriever(new, stock.xtrace).search(query, 5, stock.kb_id)
    assert after == before
    assert not (await verify(new, stock.xtrace, stock.kb_id)).bad
    assert (await DataLoader(new, stock.xtrace).load(chunks(COUNT), list(stock.floats), stock.kb_id)).stored == 0


async def test_contexts_are_saved_and_opened_again(stock: Stock, tmp_path: Path) -> None:
    stock.context.save_to_disk(tmp_path / "context.json")
    await stock.context.save_to_remote(stock.xtrace)
    again = ExecutionContext.load_from_disk(
        path=tmp_path / "context.json", key_provider=provider(), insecure_allow_weak_encryption=True
    )
    remote = await ExecutionContext.load_from_remote(
        "a passphrase of the tests", stock.context.id, stock.xtrace, insecure_allow_weak_encryption=True
    )
    query = vectors(1, seed=7)[0]
    for context in (again, remote.rewrap(provider())):
        found = await Retriever(context, stock.xtrace).search(query, 3, stock.kb_id)
        assert [(one.chunk_id, one.distance) for one in found] == stock.nearest(query, 3)
        assert (context.id, context.key_len()) == (stock.context.id, key_len(stock.scheme))


@pytest.mark.parametrize("scheme", ["lattice", NAME])
@pytest.mark.parametrize(("name", "value"), [("key_len", 1024), ("alpha_len", 512)])
def test_a_scheme_refuses_parameters_that_it_does_not_have(scheme: str, name: str, value: int) -> None:
    with pytest.raises(InvalidArgument, match=f"{name} is {value}, but the scheme {scheme} does not use it: omit it"):
        ExecutionContext.create(provider(), scheme, DIM, **{name: value})  # type: ignore[arg-type]
