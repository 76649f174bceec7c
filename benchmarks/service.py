"""The service alone: insertion, metadata search and filtered search over a large knowledge base.

The ciphertexts are random integers below n²: to the service they look like any other.
"""

import secrets
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from benchmarks.harness import Measurement
from xtrace_cli.server_process import local_server
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

ROUNDS = 9
SMALL = 1000
RARE = 20


async def service_benchmarks(chunks: int, key_len: int) -> list[Measurement]:
    """The rows for a knowledge base of that many chunks, beside one of 1,000."""
    provider = PassphraseKeyProvider(secrets.token_urlsafe(), insecure_log2_n=1)
    context = ExecutionContext.create(provider, "paillier_lookup", 512, key_len)
    width = key_len // 2
    with tempfile.TemporaryDirectory() as folder, local_server(Path(folder)) as server:
        async with XTraceIntegration(
            org_id=server.org_id, api_key=server.api_key, api_url=server.api_url, admin_key=server.admin_key
        ) as xtrace:
            await context.save_to_remote(xtrace)
            small, large = [(await xtrace.create_kb(name)).id for name in ("small", "large")]
            await store(xtrace, context.id, small, SMALL, width)
            elapsed = await store(xtrace, context.id, large, chunks, width)
            query = context.homomorphic.encrypt_queries([[0] * 512]).sent[0]

            def rare() -> Awaitable[Any]:
                return xtrace.meta_search(large, {"tag1": "rare"}, context.id, False, None)

            def unfiltered() -> Awaitable[Any]:
                return xtrace.compute_hamming_distances(query, context.id, small)

            def filtered() -> Awaitable[Any]:
                return xtrace.compute_hamming_distances(query, context.id, large, meta_filter={"tag2": "selected"})

            times = await in_turn(rare, unfiltered, filtered)
    ratio = statistics.median(b / a for a, b in zip(times[1], times[2], strict=True))
    per_chunk = elapsed * 1000 / chunks
    return [
        Measurement("store a chunk, batches of 500", per_chunk, per_chunk, per_chunk, 1, "0.2 ms (5,000 a second)"),
        _row(f"metadata search, {RARE} of {chunks:,} match", times[0], "10 ms"),
        _row(f"service's answer, unfiltered over {SMALL:,}", times[1], ""),
        _row(f"service's answer, filtered to {SMALL:,} of {chunks:,}", times[2], f"{ratio:.2f} times (target: 1.5)"),
    ]


async def store(xtrace: XTraceIntegration, context_id: str, kb_id: str, count: int, width: int) -> float:
    """Stores that many chunks, of which 1,000 are selected and 20 rare by their tags; gives the seconds."""
    content = secrets.token_urlsafe(768)
    step = max(count // SMALL, 1)
    elapsed = 0.0
    for start in range(0, count, 10_000):
        numbers = range(start, min(start + 10_000, count))
        index = [[secrets.token_bytes(width - 1)] for _ in numbers]
        nonce = secrets.token_bytes(14)
        db = [
            {"chunk_content": content, "meta_data": _tags(i, step, count), "name": f"chunk {i}", "nonce": nonce}
            for i in numbers
        ]
        started = time.perf_counter()
        await xtrace.store_db(db, index, kb_id, context_id)
        elapsed += time.perf_counter() - started
    return elapsed


def _tags(number: int, step: int, count: int) -> dict[str, Any]:
    return {
        "tag1": "rare" if number % (count // RARE) == 0 else f"common {number % 50}",
        "tag2": "selected" if number % step == 0 else "other",
        "facets": [f"facet {number % 7}", f"facet {number % 11 + 7}"],
    }


async def in_turn(*calls: Callable[[], Awaitable[Any]]) -> list[list[float]]:
    times: list[list[float]] = [[] for _ in calls]
    for call in calls:
        await call()
    for _ in range(ROUNDS):
        for call, own in zip(calls, times, strict=True):
            started = time.perf_counter()
            await call()
            own.append((time.perf_counter() - started) * 1000)
    return times


def _row(name: str, times: list[float], limit: str) -> Measurement:
    return Measurement(name, statistics.median(times), min(times), max(times), len(times), limit)
