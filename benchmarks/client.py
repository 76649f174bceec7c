"""A client in a process of its own, for `benchmarks.end_to_end`: does one task, says how long it took and what it held.

A task comes in as JSON on standard input, its figures go out as JSON: seconds, bytes.
"""

import asyncio
import base64
import json
import secrets
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from benchmarks.harness import Counted, forget_peak, resident
from xtrace_core import frames, wire
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.retrievers.retriever import Retriever
from xtrace_sdk.x_vec.upkeep.rotation import rotate
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

K = 10
AT_ONCE = 8
_CONTENT_CHARACTERS = 768


class Client:
    """What a task works with."""

    def __init__(self, settings: dict[str, Any], xtrace: XTraceIntegration) -> None:
        self.settings = settings
        self.xtrace = xtrace
        self.kb_id: str = settings["kb_id"]
        self.provider = PassphraseKeyProvider(settings["passphrase"], insecure_log2_n=1)
        self.context = ExecutionContext.load_from_disk(path=settings["context"], key_provider=self.provider)

    def vectors(self, count: int) -> NDArray[np.uint8]:
        length = self.context.embed_len()
        return np.frombuffer(secrets.token_bytes(count * length), dtype=np.uint8).reshape(count, length) & np.uint8(1)

    def collection(self, count: int) -> Iterator[dict[str, Any]]:
        text = secrets.token_hex(_CONTENT_CHARACTERS // 2)
        return ({"chunk_content": f"{i} {text}", "meta_data": {"tag1": f"{i % 100}"}} for i in range(count))


async def load(client: Client) -> dict[str, Any]:
    """Ready vectors and texts, made as they are read."""
    count = client.settings["count"]
    vectors = client.vectors(count)
    loader = DataLoader(client.context, client.xtrace)
    began = time.perf_counter()
    summary = await loader.load(client.collection(count), vectors, client.kb_id)
    assert summary.stored == count
    return {"seconds": time.perf_counter() - began}


async def insert(client: Client) -> dict[str, Any]:
    """Chunks that are encrypted already."""
    count = client.settings["count"]
    loader = DataLoader(client.context, client.xtrace)
    index, db = await loader.load_data_from_memory_batch(list(client.collection(count)), client.vectors(count))
    began = time.perf_counter()
    await loader.dump_db(db, index, client.kb_id, concurrent=True)
    return {"seconds": time.perf_counter() - began}


async def answer(client: Client) -> dict[str, Any]:
    """The service's answer alone, not decrypted: the first time, and the best of the others."""
    query = client.context.homomorphic.encrypt_queries(client.vectors(1)).sent[0]
    body = msgspec.json.encode(wire.ComputeHamming(kb_id=client.kb_id, context_id=client.context.id, query=query))
    headers = {wire.API_KEY_HEADER: client.settings["api_key"], "accept": frames.MEDIA_TYPE}
    url = f"{client.settings['api_url']}/v1/compute_hamming/{client.settings['org_id']}"
    times = []
    async with httpx2.AsyncClient(timeout=120) as http:
        await http.get(f"{client.settings['api_url']}/livez")  # connects
        for _ in range(1 + client.settings["rounds"]):
            began, first, size = time.perf_counter(), 0.0, 0
            async with http.stream("POST", url, content=body, headers=headers) as got:
                assert got.status_code == 200
                async for part in got.aiter_raw():
                    first = first or time.perf_counter() - began
                    size += len(part)
            times.append((first, time.perf_counter() - began))
    (cold, _), *warm = times
    return {"cold_first_byte": cold, "first_byte": min(warm)[0], "bytes_up": len(body), "bytes_down": size}


async def search(client: Client) -> dict[str, Any]:
    """The ids of the nearest chunks, as the SDK finds them."""
    retriever, vectors = Retriever(client.context, client.xtrace), client.vectors(client.settings["rounds"] + 1)
    times, used = [], []
    for vector in vectors:
        began, before = time.perf_counter(), time.process_time()
        assert len(await retriever.nn_search_for_ids(vector, K, client.kb_id)) == K
        times.append(time.perf_counter() - began)
        used.append(time.process_time() - before)
    return {"seconds": times[1:], "processor": used[1:]}


async def transfer(client: Client) -> dict[str, Any]:
    """The bytes of a search, in bodies: of the first one and of the second, and how the vectors were compared."""
    network, account = Counted(), {name: client.settings[name] for name in ("org_id", "api_key", "api_url")}
    async with XTraceIntegration(**account, transport=network) as xtrace:
        retriever, moved = Retriever(client.context, xtrace), []
        for vector in client.vectors(2):
            before = network.up, network.down
            await retriever.nn_search_for_ids(vector, K, client.kb_id)
            moved.append((network.up - before[0], network.down - before[1]))
    (first_up, first_down), (up, down) = moved
    return {"first_bytes_up": first_up, "first_bytes_down": first_down, "bytes_up": up, "bytes_down": down}


async def search_at_once(client: Client) -> dict[str, Any]:
    """So many searches at the same time."""
    retriever, vectors = Retriever(client.context, client.xtrace), client.vectors(AT_ONCE)
    began = time.perf_counter()
    await asyncio.gather(*[retriever.nn_search_for_ids(vector, K, client.kb_id) for vector in vectors])
    return {"seconds": time.perf_counter() - began}


async def store_whole(client: Client) -> dict[str, Any]:
    """For `download_and_compare`: all vectors as one AES-GCM blob, the content of one chunk."""
    blob = client.vectors(client.settings["count"])
    key, nonce = base64.b64decode(client.settings["content_key"]), secrets.token_bytes(12)
    content = base64.b64encode(nonce + AESGCM(key).encrypt(nonce, np.packbits(blob, axis=1).tobytes(), None)).decode()
    index = client.context.homomorphic.encrypt_vec_batch(blob[:1])
    stored = await client.xtrace.store_db([{"chunk_content": content}], index, client.kb_id, client.context.id)
    return {"chunk_id": stored[0]}


async def download_and_compare(client: Client) -> dict[str, Any]:
    """The honest floor: without homomorphic encryption the client downloads every vector, each time, and compares."""
    key, length = base64.b64decode(client.settings["content_key"]), client.context.embed_len()
    times, size = [], 0
    for vector in client.vectors(client.settings["rounds"] + 1):
        began = time.perf_counter()
        (chunk,) = await client.xtrace.get_chunk_by_id([client.settings["chunk_id"]], client.kb_id, ["chunk_content"])
        data = base64.b64decode(chunk["chunk_content"])
        size = len(chunk["chunk_content"])
        rows = np.frombuffer(AESGCM(key).decrypt(data[:12], data[12:], None), dtype=np.uint8).reshape(-1, length // 8)
        distances = np.bitwise_count(rows ^ np.packbits(vector)).sum(axis=1)
        np.argpartition(distances, min(K, len(rows) - 1))[:K]
        times.append(time.perf_counter() - began)
    return {"seconds": times[1:], "bytes_down": size}


async def rotate_all(client: Client) -> dict[str, Any]:
    """Every chunk to new keys."""
    successor = client.context.successor(client.provider)
    successor.save_to_disk(Path(client.settings["context"]).with_suffix(".next.json"))
    began = time.perf_counter()
    summary = await rotate(successor, client.xtrace, [client.kb_id])
    return {"seconds": time.perf_counter() - began, "chunks": summary.total}


TASKS: dict[str, Callable[[Client], Awaitable[dict[str, Any]]]] = {
    task.__name__: task
    for task in (load, insert, answer, search, transfer, search_at_once, store_whole, download_and_compare, rotate_all)
}


async def main() -> None:
    """Does the task."""
    settings = json.loads(sys.stdin.read())
    account = {name: settings[name] for name in ("org_id", "api_key", "api_url")}
    async with XTraceIntegration(**account) as xtrace:
        client = Client(settings, xtrace)
        before, _ = resident()
        forget_peak()
        figures = await TASKS[settings["task"]](client)
        print(json.dumps({**figures, "memory": resident()[1] - before}))


if __name__ == "__main__":
    asyncio.run(main())
