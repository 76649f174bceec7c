"""A hostile server's answers to a `Collection`: another record is never taken for the one that was asked for."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from support.collecting import Model, toy_context
from support.hostile_server import Exchange, Hostile, hostile_server
from support.hostile_table import not_noticed, noticed
from support.service import LiveService
from xtrace_sdk import Collection, DataLoader
from xtrace_sdk.errors import ChangedSinceSearch, ContentTampered, InvalidAnswer, OtherRecord
from xtrace_sdk.integrations.xtrace import Retries, XTraceIntegration
from xtrace_sdk.x_vec.upkeep.bad_chunks import Problem
from xtrace_sdk.x_vec.upkeep.verification import verify
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
from xtrace_server.credentials import Credentials

DATABASES = ("sqlite",)
"""The answers are changed on their way, wherever they come from."""

Change = Callable[[Any], Any]
FETCH, NAMES, PAGE = "GET chunk", "POST chunk/names", "POST chunk/meta/page"
SPACES = ("", "other")
RECORDS = [{"id": f"r{i}", "text": f"text {i}", "metadata": {"n": i, "even": i % 2 == 0}} for i in range(6)]


@dataclass(frozen=True)
class Stock:
    credentials: Credentials
    context: ExecutionContext
    kb_id: str

    @asynccontextmanager
    async def lied_to(self) -> AsyncIterator[tuple[Collection, Hostile]]:
        """The collection behind a hostile server, and that server."""
        async with hostile_server(self.credentials.api_url) as hostile, self.client(hostile.url) as xtrace:
            yield self.collection(xtrace), hostile

    def client(self, url: str) -> XTraceIntegration:
        one = self.credentials
        return XTraceIntegration(one.org_id, one.api_key, one.admin_key, url, retries=Retries(attempts=1))

    def collection(self, xtrace: XTraceIntegration, namespace: str = "") -> Collection:
        return Collection(xtrace, self.context, self.kb_id, embedding=Model(), namespace=namespace)


@pytest.fixture(scope="module")
def stock(live_service: LiveService) -> Stock:
    """Two namespaces and a plain chunk under one context; tests leave them as they are."""
    credentials, context = live_service.new_organisation("hostile"), toy_context()

    async def store() -> str:
        one = credentials
        async with XTraceIntegration(one.org_id, one.api_key, one.admin_key, one.api_url) as xtrace:
            kb_id = (await xtrace.create_kb("kb")).id
            for space in SPACES:
                await Stock(one, context, kb_id).collection(xtrace, space).upsert(RECORDS)
            await DataLoader(context, xtrace).load([{"chunk_content": "a plain chunk"}], Model(), kb_id)
            return kb_id

    return Stock(credentials, context, asyncio.run(store()))


def lying(ending: str, change: Change) -> Callable[[Exchange], None]:
    def lie(exchange: Exchange) -> None:
        if exchange.is_for(ending) and exchange.status == 200:
            exchange.json = change(exchange.json)

    return lie


noticed("gives another record of a collection for the one that was asked for", OtherRecord)


async def test_another_record_for_an_id_is_noticed(stock: Stock) -> None:
    def other_chunk(answer: Any) -> Any:
        return {"chunk_ids": {name: chunk_id % 6 + 2 for name, chunk_id in answer["chunk_ids"].items()}}

    def exchanged(found: Any) -> Any:
        first, second = found[0], found[1]
        for key in ("chunk_content", "nonce"):
            first[key], second[key] = second[key], first[key]
        return found

    async with stock.lied_to() as (collection, hostile):
        for lie in (lying(NAMES, other_chunk), lying(FETCH, exchanged)):
            hostile.lie = lie
            for call in (collection.get(["r1", "r2"]), collection.get(["r2", "r1"], include_vectors=True)):
                with pytest.raises(OtherRecord, match="returned a record that was not requested"):
                    await call
        hostile.lie = lying(NAMES, other_chunk)
        with pytest.raises(OtherRecord):
            await collection.update("r1", text="new")
    async with stock.client(stock.credentials.api_url) as xtrace:
        assert [one.text for one in await stock.collection(xtrace).get(["r1"])] == ["text 1"]


noticed("gives a record of another namespace, or a chunk that is not a record, as one of a collection", OtherRecord)


async def test_records_of_another_namespace_and_other_chunks_are_noticed(stock: Stock) -> None:
    async with stock.client(stock.credentials.api_url) as xtrace:
        own = stock.context.id
        pages = {
            name: await xtrace.meta_search_paginated(
                stock.kb_id, own, {"tag1": {"$exists": exists}}, limit=20, sort_order="asc", return_content=True
            )
            for name, exists in (("records", True), ("others", False))
        }
    foreign = [one["chunk_id"] for one in pages["records"].results][6:7]
    plain = [one["chunk_id"] for one in pages["others"].results]
    assert len(plain) == 3  # what each namespace keeps, and the plain chunk

    for shown in (*foreign, *plain):

        async def lie(exchange: Exchange, shown: int = shown) -> None:
            if exchange.is_for(PAGE):
                everything = exchange.body | {"meta_filter": {}, "limit": 50}
                await exchange.ask(**everything)
                exchange.json = exchange.json | {
                    "results": [one for one in exchange.json["results"] if one["chunk_id"] == shown],
                    "has_more": False,
                }

        async with stock.lied_to() as (collection, hostile):
            await collection._store.fields()
            hostile.lie = lie
            with pytest.raises(OtherRecord, match="not a record of this collection and namespace"):
                _ = [record async for record in collection.iter()]


noticed("gives another chunk as what a collection keeps about itself", OtherRecord)


async def test_another_chunk_as_what_the_collection_keeps_is_noticed(stock: Stock) -> None:
    async def lie(exchange: Exchange) -> None:
        if exchange.is_for(PAGE):
            await exchange.ask(meta_filter={"tag1": {"$exists": True}})

    async with stock.lied_to() as (collection, hostile):
        hostile.lie = lie
        for call in (
            collection.count({"n": 1}),
            collection.upsert([{"id": "new"}]),
            collection.search("x", where={"n": 1}),
        ):
            with pytest.raises(OtherRecord, match="as the collection's own chunk"):
                await call


async def test_changed_contents_are_noticed_in_every_call(stock: Stock) -> None:
    def cut(found: Any) -> Any:
        chunks = found["results"] if isinstance(found, dict) else found
        for chunk in chunks:
            chunk["chunk_content"] = chunk["chunk_content"][:60]
        return found

    def exchanged(found: Any) -> Any:
        for key in ("chunk_content", "nonce"):
            found[0][key], found[1][key] = found[1][key], found[0][key]
        return found

    async with stock.lied_to() as (collection, hostile):
        await collection._store.fields()
        hostile.lie = lying(FETCH, cut)
        for call in (collection.get(["r1"]), collection.search("text 1", 2), collection.update("r1", text="x")):
            with pytest.raises(ContentTampered):
                await call
        hostile.lie = lying(PAGE, cut)
        with pytest.raises(ContentTampered):
            await collection.values("n")
        hostile.lie = lying(FETCH, exchanged)
        with pytest.raises(ChangedSinceSearch):
            await collection.search("text 1", 3, decoys=1)
        hostile.lie = lying(FETCH, lambda found: [one | {"created_at": "yesterday"} for one in found])
        with pytest.raises(InvalidAnswer, match="a time that is not in ISO 8601"):
            await collection.get(["r1"])


async def test_records_that_a_filter_excludes_never_come_back(stock: Stock) -> None:
    async def lie(exchange: Exchange) -> None:
        if exchange.is_for(PAGE, "POST compute_hamming") and "facets" in exchange.request.decode():
            (inside, _) = exchange.body["meta_filter"]["$and"]
            await exchange.ask(meta_filter=inside)

    async with stock.lied_to() as (collection, hostile):
        hostile.lie = lie
        assert [record.id async for record in collection.iter({"even": True})] == ["r0", "r2", "r4"]
        assert {hit.record.id for hit in await collection.search("text 1", 6, where={"even": True})} == {
            "r0",
            "r2",
            "r4",
        }
        assert await collection.values("n", {"even": False}) == [1, 3, 5]


@not_noticed("withholds records of a collection from a filter, or says another number of them")
async def test_withheld_records_are_not_noticed(stock: Stock) -> None:
    def fewer(page: Any) -> Any:
        return page | {"results": page["results"][1:], "total": 2, "has_more": False}

    async with stock.lied_to() as (collection, hostile):
        await collection._store.fields()
        hostile.lie = lying(PAGE, fewer)
        assert [record.id async for record in collection.iter({"even": True})] == ["r2", "r4"]
        hostile.lie = lying(PAGE, lambda page: page | {"total": 77})
        assert await collection.count({"even": True}) == 77


@not_noticed("changes the hashes that it has of a record")
async def test_changed_hashes_are_not_noticed_until_everything_is_verified(stock: Stock) -> None:
    async with stock.client(stock.credentials.api_url) as xtrace:
        kb_id = (await xtrace.create_kb("changed")).id
        collection = Collection(xtrace, stock.context, kb_id, embedding=Model())
        await collection.upsert(RECORDS)
        assert (await verify(stock.context, xtrace, kb_id)).bad == ()
        (chunk,) = await xtrace.get_chunk_by_id([3], kb_id, ["facets"])
        other = [*chunk["meta_data"]["facets"][1:], "#" + "0" * 32]
        await xtrace.patch_chunks(kb_id, stock.context.id, [{"chunk_id": 3, "meta_data": {"facets": other}}])
        assert (await collection.get(["r1"]))[0].text == "text 1"
        (bad,) = (await verify(stock.context, xtrace, kb_id)).bad
        assert (bad.chunk_id, bad.problems) == (3, (Problem.METADATA,))
        await collection.update("r1", metadata={"n": 1})
        assert (await verify(stock.context, xtrace, kb_id)).bad == ()
