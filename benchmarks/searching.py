"""Search end to end over loopback, beside the sum of its parts measured in this process."""

import asyncio
import secrets
import statistics
import tempfile
import time
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Measurement
from xtrace_cli.server_process import local_server
from xtrace_core.schemes.registry import SchemeRegistry
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.retrievers.retriever import Retriever
from xtrace_sdk.x_vec.schemes.ciphertexts import EncryptedIndexBatch
from xtrace_sdk.x_vec.schemes.paillier.scheme import PaillierScheme
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

ROUNDS = 7
K = 3


async def search_benchmarks(chunks: int, embed_len: int, key_len: int) -> list[Measurement]:
    """Loading, searching, and the parts of searching, for a knowledge base of so many chunks of random vectors."""
    provider = PassphraseKeyProvider(secrets.token_urlsafe(), insecure_log2_n=1)
    context = ExecutionContext.create(provider, "paillier_lookup", embed_len, key_len)
    vectors = np.frombuffer(secrets.token_bytes(chunks * embed_len), dtype=np.uint8) & 1
    vectors = vectors.reshape(chunks, embed_len)
    collection = [{"chunk_content": f"{i} " + secrets.token_hex(384)} for i in range(chunks)]
    with tempfile.TemporaryDirectory() as folder, local_server(Path(folder)) as server:
        async with XTraceIntegration(
            org_id=server.org_id, api_key=server.api_key, api_url=server.api_url, admin_key=server.admin_key
        ) as xtrace:
            loading_kb, kb_id = [(await xtrace.create_kb(name)).id for name in ("loading", "searching")]
            loader, retriever = DataLoader(context, xtrace), Retriever(context, xtrace)
            started = time.perf_counter()
            await loader.load(collection, vectors, loading_kb)
            loading = (time.perf_counter() - started) * 1000 / chunks
            index, db = await loader.load_data_from_memory_batch(collection, vectors)
            started = time.perf_counter()
            await loader.dump_db(db, index, kb_id)
            storing = (time.perf_counter() - started) * 1000 / chunks
            whole, parts = [], []
            await retriever.nn_search_for_ids(vectors[0], K, kb_id)
            for i in range(ROUNDS):
                started = time.perf_counter()
                await retriever.nn_search_for_ids(vectors[i], K, kb_id)
                whole.append((time.perf_counter() - started) * 1000)
                parts.append(await asyncio.to_thread(_parts, context, index, vectors[i]))
    name = f"search over {chunks:,} chunks"
    ratio = statistics.median(a / b for a, b in zip(whole, parts, strict=True))
    return [
        Measurement("load a ready vector and its text (1 KB)", loading, loading, loading, 1, "0.4 ms (2,500 a second)"),
        Measurement("store an encrypted chunk (1 KB of content)", storing, storing, storing, 1),
        _row(name, whole, f"{ratio:.2f} times the sum of its parts (target: 1.3)"),
        _row(f"{name}: its parts, encrypt, multiply, read", parts, ""),
    ]


def _row(name: str, times: list[float], limit: str) -> Measurement:
    return Measurement(name, statistics.median(times), min(times), max(times), len(times), limit)


def _parts(context: ExecutionContext, index: EncryptedIndexBatch, vector: NDArray[np.uint8]) -> float:
    client = cast("PaillierScheme", context.homomorphic)
    evaluation = SchemeRegistry().evaluation(client.type, context.public_data()["pk"])
    stored = b"".join([evaluation.row(one.ciphertexts()) for one in index])
    rows = np.frombuffer(stored, dtype=np.uint8).reshape(len(index), -1)
    nonces = [one.nonce for one in index]
    started = time.perf_counter()
    query = client.encrypt_query(vector)
    answers = evaluation.evaluate(rows, [query.ciphertexts])
    elapsed = time.perf_counter() - started
    listed = [evaluation.index(row.tobytes()) for row in answers]
    started = time.perf_counter()
    client.read_distances(listed, nonces, query)
    return (elapsed + time.perf_counter() - started) * 1000
