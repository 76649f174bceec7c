"""The same game with all of the product: a retriever, and a hostile server in front of the real one."""

import base64
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

from game.arena import Answer, Reaction, Search, Server, Vector, Vectors
from support.hostile_server import Exchange, Hostile, hostile_server, number
from xtrace_core.wire import MSGPACK
from xtrace_sdk.errors import XTraceError
from xtrace_sdk.integrations.xtrace import Retries, XTraceIntegration
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.retrievers.retriever import Retriever
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
from xtrace_server.credentials import Credentials

SEARCH, FETCH, PAGE = "POST compute_hamming", "GET chunk", "POST chunk/meta/page"


def provider() -> PassphraseKeyProvider:
    return PassphraseKeyProvider("passphrase", insecure_log2_n=1)


def new_context(dimensions: int) -> ExecutionContext:
    return ExecutionContext.create(provider(), "paillier_lookup", dimensions, 256, insecure_allow_weak_parameters=True)


@asynccontextmanager
async def lied_to(credentials: Credentials) -> AsyncIterator[tuple[XTraceIntegration, Hostile]]:
    """A client, and the hostile server that it talks to."""
    async with (
        hostile_server(credentials.api_url) as hostile,
        XTraceIntegration(
            credentials.org_id, credentials.api_key, credentials.admin_key, hostile.url, retries=Retries(attempts=1)
        ) as xtrace,
    ):
        yield xtrace, hostile


async def stored(context: ExecutionContext, xtrace: XTraceIntegration, vectors: Vectors) -> tuple[str, Server]:
    """Loads texts with these vectors into a new knowledge base; gives its id, and what the server has of it."""
    kb_id = (await xtrace.create_kb("kb")).id
    texts = [{"chunk_content": f"text {i}"} for i in range(len(vectors))]
    loader = DataLoader(context, xtrace)
    index, db = await loader.load_data_from_memory(texts, list(vectors))
    ids = await loader.dump_db(db, index, kb_id)
    assert ids == list(range(1, len(vectors) + 1))
    return kb_id, await seen_by_server(context, xtrace, kb_id, ids)


async def seen_by_server(
    context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str, ids: Sequence[int]
) -> Server:
    """What the server has of some chunks."""
    chunks = await xtrace.get_chunk_by_id(ids, kb_id, projection=["index", "nonce"])
    rows = [[number(one) for one in chunk["index"]] for chunk in chunks]
    return Server(
        context.homomorphic.public_key(), context.homomorphic.config(), rows, [c.get("nonce") for c in chunks]
    )


class Searcher:
    """The client that searches, and what the server sees of it."""

    def __init__(self, retriever: Retriever, hostile: Hostile, kb_id: str, k: int = 1, **options: Any) -> None:
        self._retriever, self._hostile, self._kb_id, self._k, self._options = retriever, hostile, kb_id, k, options
        self.errors: list[type[XTraceError] | None] = []

    def search(self, vector: Vector) -> Search:
        async def run(answer: Answer) -> Reaction:
            def lie(exchange: Exchange) -> None:
                if exchange.is_for(SEARCH):
                    exchange.rows = answer([number(base64.b64decode(one)) for one in exchange.body["query"]])

            self._hostile.lie, before = lie, len(self._hostile.exchanges)
            try:
                await self._retriever.search(vector, self._k, self._kb_id, **self._options)
            except XTraceError as error:
                self.errors.append(type(error))
            else:
                self.errors.append(None)
            requests = self._hostile.exchanges[before:]
            assert [exchange.is_for(SEARCH) for exchange in requests] == [True] + [False] * (len(requests) - 1)
            fetches = [fetched(exchange) for exchange in requests[1:]]
            assert len(fetches) <= 1
            return fetches[0] if fetches else None

        return run


def fetched(exchange: Exchange) -> tuple[int, ...]:
    """The ids that a request for chunks names, in its order."""
    assert exchange.is_for(FETCH)
    return tuple(map(int, parse_qs(urlsplit(exchange.target).query)["chunk_ids"]))


def view(hostile: Hostile, names: Mapping[str, str]) -> list[str]:
    """All that the server sees: method, target, headers and body of every request in their order.

    Ciphertexts are left out, whose lengths are those of random numbers; so are the ids in `names`, which are of no
    importance. Everything else must be equal where two views are.
    """
    seen = []
    for exchange in hostile.exchanges:
        headers = {name: value for name, value in sorted(exchange.headers.items()) if name != "content-length"}
        text = f"{exchange.method} {exchange.target} {headers} {body_of(exchange)}"
        for name, short in names.items():
            text = text.replace(name, short)
        seen.append(text)
    return seen


def body_of(exchange: Exchange) -> Any:
    assert exchange.headers.get("content-type") != MSGPACK  # nothing is written in these games
    if not exchange.request:
        return None
    body = json.loads(exchange.request)
    if "query" in body:
        body["query"] = [abs(len(base64.b64decode(one)) - 128) < 8 for one in body["query"]]
    return body | ({"page_token": "given"} if body.get("page_token") else {})
