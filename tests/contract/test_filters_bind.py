"""A filter binds whatever is retrieved of what it found, by every call, and decoys as much as wanted chunks."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from contract.hostile_stock import COUNT, QUERY, VECTORS, Stock, new_stock
from contract.test_rotation import new_context
from support.hostile_server import Exchange, Hostile
from support.hostile_table import noticed
from support.service import LiveService
from xtrace_sdk import sync
from xtrace_sdk.errors import ChangedSinceSearch
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.retrievers.retriever import Retriever
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

DATABASES = ("sqlite",)
"""It is about what a client accepts; what filters find is tested over both databases elsewhere."""

MetaFilter = Mapping[str, Any]
EVEN, ODD = {"tag1": "even"}, {"tag1": "odd"}
"""QUERY is the vector of chunk 5, whose tag is odd."""


@pytest.fixture(scope="module")
def stock(live_service: LiveService) -> Stock:
    return new_stock(live_service)


@pytest.fixture(scope="module")
def contexts() -> dict[str, ExecutionContext]:
    return {"visible metadata": new_context(), "private metadata": new_context(private_metadata=True)}


@pytest.fixture(params=["visible metadata", "private metadata"])
def context(request: pytest.FixtureRequest, contexts: dict[str, ExecutionContext]) -> ExecutionContext:
    return contexts[request.param]


@pytest.fixture(scope="module")
def kb_ids(stock: Stock, contexts: dict[str, ExecutionContext]) -> dict[str, str]:
    """By context a knowledge base that tests leave as it is."""
    return {context.id: asyncio.run(stored(stock, context)) for context in contexts.values()}


async def stored(stock: Stock, context: ExecutionContext) -> str:
    """A new knowledge base with chunks that are even and odd."""
    async with stock.client(stock.credentials.api_url) as xtrace:
        kb_id = (await xtrace.create_kb("even and odd")).id
        chunks = [
            {"chunk_content": f"text {i}", "meta_data": {"tag1": ("even", "odd")[i % 2], "tag2": "b", "facets": ["a"]}}
            for i in range(1, COUNT + 1)
        ]
        loader = DataLoader(context, xtrace)
        index, db = await loader.load_data_from_memory(chunks, list(VECTORS))
        await loader.dump_db(db, index, kb_id)
        return kb_id


# Every call that retrieves what a search found; a sync.Retriever returns at once what a Retriever is awaited for.

Answer = Callable[[Any], Awaitable[Any]]
Call = Callable[[Any, Answer, str, MetaFilter, int], Awaitable[Any]]


async def by_search(retriever: Any, answer: Answer, kb_id: str, wanted: MetaFilter, decoys: int) -> Any:
    return await answer(lambda: retriever.search(QUERY, 1, kb_id, meta_filter=wanted, decoys=decoys))


async def by_ids(
    retriever: Any, answer: Answer, kb_id: str, wanted: MetaFilter, decoys: int, projection: list[str] | None = None
) -> Any:
    ids = await answer(lambda: retriever.nn_search_for_ids(QUERY, 1, kb_id, meta_filter=wanted))
    return await answer(lambda: retriever.retrieve_and_decrypt(ids, kb_id, projection, decoys=decoys))


async def by_content(retriever: Any, answer: Answer, kb_id: str, wanted: MetaFilter, decoys: int) -> Any:
    return await by_ids(retriever, answer, kb_id, wanted, decoys, ["chunk_content"])


async def by_name(retriever: Any, answer: Answer, kb_id: str, wanted: MetaFilter, decoys: int) -> Any:
    return await by_ids(retriever, answer, kb_id, wanted, decoys, ["name"])


async def by_another_tag(retriever: Any, answer: Answer, kb_id: str, wanted: MetaFilter, decoys: int) -> Any:
    return await by_ids(retriever, answer, kb_id, wanted, decoys, ["tag2"])


async def by_batch(retriever: Any, answer: Answer, kb_id: str, wanted: MetaFilter, decoys: int) -> Any:
    queries = [QUERY, VECTORS[0], *VECTORS] * 3  # more than one request has
    found = await answer(lambda: retriever.nn_search_batch(queries, 1, kb_id, meta_filter=wanted))
    ids = [ids[0] for ids, _ in found]
    return await answer(lambda: retriever.retrieve_and_decrypt(ids, kb_id, decoys=decoys))


CALLS: list[Call] = [by_search, by_ids, by_content, by_name, by_another_tag, by_batch]


async def awaited(call: Callable[[], Awaitable[Any]]) -> Any:
    return await call()


@pytest.fixture(params=["asynchronous", "synchronous"])
def is_synchronous(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "synchronous")


def ignores_filters(hostile: Hostile) -> None:
    """From now on searches are answered with all chunks."""

    async def lie(exchange: Exchange) -> None:
        if exchange.is_for("POST compute_hamming", "POST compute_hamming_batch"):
            await exchange.ask(meta_filter={})

    hostile.lie = lie


noticed("answers a search with chunks that the filter does not match", ChangedSinceSearch)


@pytest.mark.parametrize("decoys", [0, 3])
@pytest.mark.parametrize("call", CALLS)
async def test_no_call_retrieves_what_the_filter_does_not_match(
    call: Call, decoys: int, is_synchronous: bool, context: ExecutionContext, stock: Stock, kb_ids: dict[str, str]
) -> None:
    kb_id = kb_ids[context.id]
    async with stock.lied_to() as (xtrace, hostile):
        own, answer = stock.credentials, asyncio.to_thread if is_synchronous else awaited
        integration: Any = xtrace
        if is_synchronous:
            integration = sync.XTraceIntegration(own.org_id, own.api_key, own.admin_key, hostile.url)
        retriever = (sync.Retriever if is_synchronous else Retriever)(context, integration)
        assert await call(retriever, answer, kb_id, ODD, decoys)
        assert await call(retriever, answer, kb_id, EVEN, decoys)
        ignores_filters(hostile)
        assert await call(retriever, answer, kb_id, {"tag2": "b"}, decoys)
        with pytest.raises(ChangedSinceSearch, match="does not match the filter of the search"):
            await call(retriever, answer, kb_id, EVEN, decoys)
        if is_synchronous:
            await asyncio.to_thread(integration.close)


@pytest.mark.parametrize(
    ("projection", "shown"),
    [
        (["chunk_content"], {"chunk_content": "text 5"}),
        (["meta_data"], {"meta_data": {"tag1": "odd", "tag2": "b", "facets": ["a"]}}),
        (["tag2", "facets"], {"meta_data": {"tag2": "b", "facets": ["a"]}}),
        (["tag3"], {"meta_data": {}}),
    ],
)
async def test_only_what_was_asked_for_is_shown(
    projection: list[str], shown: dict[str, Any], context: ExecutionContext, stock: Stock, kb_ids: dict[str, str]
) -> None:
    kb_id = kb_ids[context.id]
    async with stock.client(stock.credentials.api_url) as xtrace:
        retriever = Retriever(context, xtrace)
        for meta_filter in (None, ODD):
            ids = await retriever.nn_search_for_ids(QUERY, 1, kb_id, meta_filter=meta_filter)
            assert await retriever.retrieve_and_decrypt(ids, kb_id, projection) == [{"chunk_id": 5, **shown}]


async def test_a_chunk_that_was_changed_since_is_found_anew(context: ExecutionContext, stock: Stock) -> None:
    kb_id = await stored(stock, context)
    async with stock.client(stock.credentials.api_url) as xtrace:
        retriever, loader = Retriever(context, xtrace), DataLoader(context, xtrace)
        ids = await retriever.nn_search_for_ids(QUERY, 2, kb_id, meta_filter=ODD)
        await loader.patch_chunks_by_meta({"tag1": "odd"}, {"tag2": "other"}, kb_id)
        assert len(await retriever.retrieve_and_decrypt(ids, kb_id)) == 2
        await loader.patch_chunks_by_meta({"tag1": "odd"}, {"tag1": "even"}, kb_id)
        with pytest.raises(ChangedSinceSearch, match="search again"):
            await retriever.retrieve_and_decrypt(ids, kb_id)
        # The latest search counts.
        assert await retriever.nn_search_for_ids(QUERY, 2, kb_id, meta_filter=EVEN)
        (found,) = await retriever.retrieve_and_decrypt([5], kb_id)
        assert found["chunk_content"] == "text 5"
        assert await retriever.nn_search_for_ids(QUERY, 2, kb_id)
        assert await retriever.retrieve_and_decrypt([5], kb_id) == [found]


async def test_searches_at_the_same_time_check_their_own_filters(
    context: ExecutionContext, stock: Stock, kb_ids: dict[str, str]
) -> None:
    kb_id = kb_ids[context.id]
    async with stock.lied_to() as (xtrace, hostile):
        retriever = Retriever(context, xtrace)
        ignores_filters(hostile)
        filters: list[MetaFilter | None] = [EVEN, None, ODD] * 2
        outcomes = await asyncio.gather(
            *(retriever.search(QUERY, 1, kb_id, meta_filter=one) for one in filters), return_exceptions=True
        )
        for one, outcome in zip(filters, outcomes, strict=True):
            assert isinstance(outcome, ChangedSinceSearch if one is EVEN else list)


noticed("changes the visible metadata of one fetched chunk, so that the filter excludes it", ChangedSinceSearch)


async def test_a_decoy_that_the_filter_does_not_match_is_an_error_as_a_wanted_chunk_is(
    contexts: dict[str, ExecutionContext], stock: Stock, kb_ids: dict[str, str]
) -> None:
    """So the server cannot try which chunks are wanted. What the filter excludes anyway may have any metadata."""
    context = contexts["visible metadata"]
    kb_id = kb_ids[context.id]
    async with stock.lied_to() as (xtrace, hostile):
        retriever, asked = Retriever(context, xtrace), list[int]()

        def changed(chunk_id: int) -> Callable[[Exchange], None]:
            def lie(exchange: Exchange) -> None:
                if exchange.is_for("GET chunk"):
                    asked[:] = [chunk["chunk_id"] for chunk in exchange.json]
                    exchange.json = [
                        chunk | {"meta_data": {"tag1": "a lie"}} if chunk["chunk_id"] == chunk_id else chunk
                        for chunk in exchange.json
                    ]

            return lie

        async def search_odd() -> None:
            (found,) = await retriever.search(QUERY, 1, kb_id, meta_filter=ODD, decoys=3)
            assert found.chunk_id == 5

        await retriever.search(QUERY, 1, kb_id, decoys=7)
        await search_odd()  # as all are odd or even, what is too few to hide comes along
        hostile.lie = changed(0)
        await search_odd()
        fetched = list(asked)
        assert [chunk_id for chunk_id in fetched if chunk_id % 2] == [1, 3, 5, 7, 9, 11]
        assert len(fetched) > 6
        for chunk_id in fetched:
            hostile.lie = changed(chunk_id)
            if chunk_id % 2:
                with pytest.raises(ChangedSinceSearch, match=f"chunk {chunk_id} "):
                    await search_odd()
            else:
                await search_odd()
            assert asked == fetched
