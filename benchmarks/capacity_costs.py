"""Measures the costs that `benchmarks.capacity` reckons with, and compares its predictions with measurements.

Times are those that processors spent on a process, not those of a clock, and the least of several rounds: other work on
the machine changes them little.
"""

import asyncio
import math
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx2
import msgspec
import numpy as np

from benchmarks.capacity import TOLERANCE, Costs, Load, Prices, duration, plan, size
from benchmarks.databases import served
from benchmarks.harness import machine
from xtrace_cli.server_process import server_process
from xtrace_core import frames, wire
from xtrace_core.arithmetic import arithmetic
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.retrievers.retriever import Retriever
from xtrace_server.credentials import Credentials

DIMENSIONS, KEY_LEN = 512, 1024
SIZES: Final = (1_000, 24_000)
"""Two points make the lines."""
IN_MEMORY: Final = 36_000
"""Searched after these, when the server has what it needs only once."""
CHECKED: Final = (3_000, 12_000, 48_000)
STORED: Final = 10_000
CONTENTS: Final = (200, 4_000)
CHECKED_CONTENTS: Final = (400, 1_100, 6_000)
ROUNDS: Final = 15


@dataclass(frozen=True, slots=True)
class Searched:
    """What one search over `rows` chunks took."""

    rows: int
    server_s: float
    client_s: float
    memory_bytes: int
    """By which that of the server grew with the first searches."""
    up_bytes: int
    down_bytes: int


def processor_s(pid: int) -> float:
    """The time that processors have spent on a process, in seconds."""
    return time.clock_gettime((~pid << 3) | 2)  # the clock of another process: Linux's MAKE_PROCESS_CPUCLOCK


def memory(pid: int) -> int:
    """The memory of a process that is not of files."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def client_of(one: Credentials) -> XTraceIntegration:
    """A client of the organisation."""
    return XTraceIntegration(one.org_id, one.api_key, one.admin_key, one.api_url)


async def load_and_search(sizes: Sequence[int]) -> tuple[list[Searched], float, float]:
    """Loads knowledge bases of these sizes and searches each; with the time of server and client to insert a chunk."""
    context = ExecutionContext.create(
        PassphraseKeyProvider(secrets.token_urlsafe(), insecure_log2_n=1), "paillier_lookup", DIMENSIONS, KEY_LEN
    )
    with tempfile.TemporaryDirectory() as name:
        with server_process(Path(name)) as (credentials, pid):
            async with client_of(credentials) as xtrace:
                kbs = [(await xtrace.create_kb(f"{count}")).id for count in sizes]
                loader, inserted = DataLoader(context, xtrace), []
                for kb, count in zip(kbs, sizes, strict=True):
                    inserted.append(await _loaded(loader, pid, kb, count))
        # Another server, which has nothing in memory.
        with server_process(Path(name)) as (credentials, pid):
            async with client_of(credentials) as xtrace:
                found = await _searched(Retriever(context, xtrace), pid, dict(zip(sizes, kbs, strict=True)))
                wire_bytes = [await _bytes(context, credentials, kb) for kb in kbs]
    searches = [Searched(*one, *sent) for one, sent in zip(found, wire_bytes, strict=True)]
    return searches, min(server for server, _ in inserted), min(client for _, client in inserted)


async def _loaded(loader: DataLoader, pid: int, kb: str, count: int) -> tuple[float, float]:
    print(f"load {count:,}", file=sys.stderr)
    bits = np.unpackbits(np.frombuffer(secrets.token_bytes(count * DIMENSIONS // 8), np.uint8))
    texts = [{"chunk_content": f"{i} " + secrets.token_hex(300)} for i in range(count)]
    began = processor_s(pid), time.process_time()
    await loader.load(texts, bits.reshape(count, DIMENSIONS), kb)
    return (processor_s(pid) - began[0]) / count, (time.process_time() - began[1]) / count


async def _searched(retriever: Retriever, pid: int, kbs: Mapping[int, str]) -> list[tuple[int, float, float, int]]:
    """Rows, the time of server and client, and by how much the server's memory grew with the first searches."""
    vectors = np.random.default_rng(1).integers(0, 2, (ROUNDS + 2, DIMENSIONS), dtype=np.uint8)
    grown = []
    for kb in kbs.values():
        before = memory(pid)
        for vector in vectors[:2]:
            await retriever.nn_search_for_ids(vector, 3, kb)
        grown.append(memory(pid) - before)
    least = [(math.inf, math.inf)] * len(kbs)
    # All sizes in each round, so that a machine that is busy for a while is so for all of them.
    for vector in vectors[2:]:
        for place, (rows, kb) in enumerate(kbs.items()):
            repeats = max(12_000 // rows, 1)
            began = processor_s(pid), time.process_time()
            for _ in range(repeats):
                await retriever.nn_search_for_ids(vector, 3, kb)
            took = (processor_s(pid) - began[0]) / repeats, (time.process_time() - began[1]) / repeats
            least[place] = min(least[place][0], took[0]), min(least[place][1], took[1])
    return [(rows, *times, more) for rows, times, more in zip(kbs, least, grown, strict=True)]


async def _bytes(context: ExecutionContext, credentials: Credentials, kb: str) -> tuple[int, int]:
    query = context.homomorphic.encrypt_queries([[0] * DIMENSIONS]).sent[0]
    body = msgspec.json.encode(wire.ComputeHamming(kb_id=kb, context_id=context.id, query=query))
    headers = {wire.API_KEY_HEADER: credentials.api_key, "accept": frames.MEDIA_TYPE}
    async with httpx2.AsyncClient(base_url=credentials.api_url, timeout=300) as http:
        answer = await http.post(f"/v1/compute_hamming/{credentials.org_id}", content=body, headers=headers)
    return len(body), len(answer.content)


async def sqlite_bytes(content_bytes: int) -> float:
    """What SQLite takes for each chunk, with an encrypted content of this length."""
    with tempfile.TemporaryDirectory() as name:
        with server_process(Path(name)) as (credentials, _):
            async with client_of(credentials) as xtrace:
                kb, before = (await xtrace.create_kb("stored")).id, _of_files(Path(name))
                await _store(xtrace, kb, content_bytes)
        # The server has stopped, and so written its log back.
        return (_of_files(Path(name)) - before) / STORED


async def postgres_bytes(contents: Sequence[int], url: str) -> list[float]:
    """The same of PostgreSQL, for each of the lengths. The database is empty before and after."""
    found = []
    with tempfile.TemporaryDirectory() as name, served(Path(name) / "data", url) as credentials:
        async with client_of(credentials) as xtrace:
            for content_bytes in contents:
                kb, before = (await xtrace.create_kb("stored")).id, _of_tables(url)
                await _store(xtrace, kb, content_bytes)
                found.append((_of_tables(url) - before) / STORED)
    _empty(url)
    return found


async def _store(xtrace: XTraceIntegration, kb: str, content_bytes: int) -> None:
    provider = PassphraseKeyProvider(secrets.token_urlsafe(), insecure_log2_n=1)
    context = ExecutionContext.create(provider, "paillier_lookup", DIMENSIONS, KEY_LEN)
    await context.save_to_remote(xtrace)
    for _ in range(STORED // 2_000):
        index = [[secrets.token_bytes(KEY_LEN // 2 - 1)] for _ in range(2_000)]
        chunks = [
            {
                # As base64, of which a database that compresses saves at most a quarter.
                "chunk_content": secrets.token_urlsafe(content_bytes)[:content_bytes],
                "name": secrets.token_hex(16),
                "nonce": secrets.token_bytes(14),
                "meta_data": {"tag1": "topic", "facets": [secrets.token_hex(11), secrets.token_hex(11)]},
            }
            for _ in index
        ]
        await xtrace.store_db(chunks, index, kb, context.id)


def _of_files(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("xtrace.db*"))


def _empty(url: str) -> None:
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")


def _of_tables(url: str) -> int:
    import psycopg

    query = "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' AND relnamespace = "
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(query + "'public'::regnamespace").fetchone()
    return int(row[0]) if row else 0


def line(low: tuple[float, float], high: tuple[float, float]) -> tuple[float, float]:
    """What is fixed, and what each adds, from two points."""
    each = (high[1] - low[1]) / (high[0] - low[0])
    return max(low[1] - each * low[0], 0.0), each


def search_costs(low: Searched, high: Searched, in_memory: Searched) -> dict[str, float]:
    """The costs of searches, from two sizes, and of memory, from a third one."""
    server = line((low.rows, low.server_s), (high.rows, high.server_s))
    client = line((low.rows, low.client_s), (high.rows, high.client_s))
    down = line((low.rows, low.down_bytes), (high.rows, high.down_bytes))
    return {
        "server_search_s": server[0],
        "server_row_s": server[1],
        "client_search_s": client[0],
        "client_row_s": client[1],
        "search_up_bytes": low.up_bytes,
        "search_down_bytes": down[0],
        "row_down_bytes": down[1],
        "cached_row_bytes": in_memory.memory_bytes / in_memory.rows,
    }


def measure(postgres: str) -> dict[str, Any]:
    """Every cost, with the machine that it was measured on."""
    points, server_insert, client_insert = asyncio.run(load_and_search((*SIZES, IN_MEMORY)))
    found = {**search_costs(*points), "server_insert_s": server_insert, "client_insert_s": client_insert}
    stored = {"sqlite": [asyncio.run(sqlite_bytes(content)) for content in CONTENTS]}
    stored["postgres"] = asyncio.run(postgres_bytes(CONTENTS, postgres))
    for name, taken in stored.items():
        low_content, high_content = zip(map(float, CONTENTS), taken, strict=True)
        found[f"{name}_chunk_bytes"], found[f"{name}_content_factor"] = line(low_content, high_content)
    return {
        "machine": machine(),
        "processors": os.cpu_count(),
        "backend": arithmetic.name,
        "dimensions": DIMENSIONS,
        "key_len": KEY_LEN,
        "sizes": SIZES,
        "costs": {name: float(f"{value:.4g}") for name, value in found.items()},
        "checked": _compared(Costs(**found), postgres),
    }


def check(costs: Costs, postgres: str | None) -> bool:
    """Prints predictions beside measurements at other sizes; returns whether all are within the tolerance.

    Processor times are those of this machine: the lines are drawn anew. Bytes are those of capacity.json.
    """
    rows = _compared(costs, postgres)
    print(f"{'':34} {'predicted':>10} {'measured':>10}")
    for row in rows:
        write = duration if row["unit"] == "s" else size
        off = row["predicted"] / row["measured"] - 1
        print(f"{row['name']:34} {write(row['predicted']):>10} {write(row['measured']):>10} {off:+7.1%}")
    return all(abs(row["predicted"] / row["measured"] - 1) <= TOLERANCE for row in rows)


def _compared(costs: Costs, postgres: str | None) -> list[dict[str, Any]]:
    (low, high, *others), _, _ = asyncio.run(load_and_search((*SIZES, *CHECKED)))
    own = Costs(
        **{
            **{name: getattr(costs, name) for name in costs.__dataclass_fields__},
            **{name: value for name, value in search_costs(low, high, high).items() if name.endswith("_s")},
        }
    )
    rows = []
    for one in others:
        expected = plan(own, Load(chunks=one.rows, candidates=one.rows), Prices())
        for name, unit, predicted, real in (
            ("server", "s", expected.search_server_s, one.server_s),
            ("client", "s", expected.search_client_s, one.client_s),
            ("answer", "B", expected.search_down_bytes, one.down_bytes),
        ):
            rows.append(_row(f"search over {one.rows:,}, {name}", unit, predicted, real))
    cached = sum(one.rows for one in others)
    rows.append(
        _row(f"memory of {cached:,}", "B", costs.cached_row_bytes * cached, sum(o.memory_bytes for o in others))
    )
    return rows + _stored_compared(costs, postgres)


def _stored_compared(costs: Costs, postgres: str | None) -> list[dict[str, Any]]:
    plans = [plan(costs, Load(chunks=1, candidates=1, content_bytes=one), Prices()) for one in CHECKED_CONTENTS]
    real = [asyncio.run(sqlite_bytes(content)) for content in CHECKED_CONTENTS]
    rows = [
        _row(f"a chunk of {content:,} B in SQLite", "B", expected.sqlite_bytes, taken)
        for content, expected, taken in zip(CHECKED_CONTENTS, plans, real, strict=True)
    ]
    if postgres is not None:
        real = asyncio.run(postgres_bytes(CHECKED_CONTENTS, postgres))
        rows += [
            _row(f"a chunk of {content:,} B in PostgreSQL", "B", expected.postgres_bytes, taken)
            for content, expected, taken in zip(CHECKED_CONTENTS, plans, real, strict=True)
        ]
    return rows


def _row(name: str, unit: str, predicted: float, real: float) -> dict[str, Any]:
    return {"name": name, "unit": unit, "predicted": predicted, "measured": real}
