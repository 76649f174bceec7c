"""`python -m benchmarks.records`: a `Collection` beside the calls below it, against a server in a process of its own.

Upserting texts with ten fields of metadata beside loading the same texts, searching by equality of a field beside a
filter by a tag, opening a collection. All in one run, in turn.
"""

import argparse
import asyncio
import random
import secrets
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Measurement, in_turn, machine, row, table
from xtrace_cli.server_process import server_process
from xtrace_sdk import (
    Collection,
    DataLoader,
    Embedding,
    ExecutionContext,
    PassphraseKeyProvider,
    Record,
    Retriever,
    XTraceIntegration,
)

FIELDS = 10
MATCHES = 1000
K = 10
ROUNDS = 9
WRITES = 3


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.records", description=__doc__)
    parser.add_argument("--texts", type=int, default=10_000, help="texts that are loaded and upserted")
    parser.add_argument("--searched", type=int, default=100_000, help="records that are searched; 0 for none")
    arguments = parser.parse_args()
    print(f"{machine()}\n{FIELDS} fields a record, one process a side\n")
    print(table(asyncio.run(_measured(arguments.texts, arguments.searched))))


async def _measured(texts: int, searched: int) -> list[Measurement]:
    embed = Embedding("wordllama", "l2_supercat", 256, bits=512)
    provider = PassphraseKeyProvider(secrets.token_urlsafe(), insecure_log2_n=1)
    context = ExecutionContext.create(provider, "paillier_lookup", embedding=embed)
    with tempfile.TemporaryDirectory() as folder, server_process(Path(folder)) as (credentials, _):
        async with XTraceIntegration(
            credentials.org_id, credentials.api_key, credentials.admin_key, credentials.api_url
        ) as xtrace:
            rows = await _writing(context, xtrace, embed, texts)
            rows.append(await _opening(context, xtrace))
            if searched:
                rows += await _searching(context, xtrace, searched)
    return rows


async def _writing(
    context: ExecutionContext, xtrace: XTraceIntegration, embed: Embedding, count: int
) -> list[Measurement]:
    """Loading and upserting the same texts, each time into another knowledge base."""
    texts = [_text(i) for i in range(count)]
    metadata = [_metadata(i) for i in range(count)]
    await embed.embed("the model is loaded")

    async def load() -> None:
        kb_id = (await xtrace.create_kb("loaded")).id
        loader = DataLoader(context, xtrace, vector_copy="int8")
        await loader.load([{"chunk_content": text} for text in texts], embed, kb_id)

    async def upsert(fields: bool) -> None:
        kb_id = (await xtrace.create_kb("upserted")).id
        collection = Collection(xtrace, context, kb_id, embedding=embed, filterable=fields)
        await collection.upsert([Record(str(i), text, metadata[i] if fields else {}) for i, text in enumerate(texts)])

    times = await in_turn(WRITES, load, lambda: upsert(False), lambda: upsert(True))
    return [
        _row(f"load {count:,} texts", times[0], times[0], ""),
        _row(f"upsert {count:,} texts", times[1], times[0], ""),
        _row(f"upsert {count:,} texts with {FIELDS} filterable fields", times[2], times[0], "1.3"),
    ]


async def _opening(context: ExecutionContext, xtrace: XTraceIntegration) -> Measurement:
    async def open_it() -> None:
        await Collection.open(xtrace, context, "opened")

    await (await Collection.open(xtrace, context, "opened")).upsert([Record("a")])
    (times,) = await in_turn(ROUNDS, open_it)
    return _row("open a collection", times, None, "20 ms")


async def _searching(context: ExecutionContext, xtrace: XTraceIntegration, count: int) -> list[Measurement]:
    """Searching chunks by a tag and records by a field, of which the same number match."""
    kb_id = (await xtrace.create_kb("chunks")).id
    collection = await Collection.open(xtrace, context, "records")
    loader = DataLoader(context, xtrace, vector_copy="int8")
    groups = max(count // MATCHES, 1)
    for start in range(0, count, 10_000):
        numbers = range(start, min(start + 10_000, count))
        vectors = _vectors(start, len(numbers))
        chunks = [{"chunk_content": _text(i), "meta_data": {"tag1": f"group {i % groups}"}} for i in numbers]
        await loader.load(chunks, list(vectors), kb_id)
        await collection.upsert(
            [
                Record(str(i), _text(i), {**_metadata(i), "group": i % groups}, vector)
                for i, vector in zip(numbers, vectors, strict=True)
            ]
        )
    retriever, queries = Retriever(context, xtrace), iter(_vectors(-1, 1000))

    async def by_tag() -> None:
        found = await retriever.search(next(queries), K, kb_id, {"tag1": "group 7"}, rescore=4)
        assert len(found) == K

    async def by_field() -> None:
        assert len(await collection.search(next(queries), K, where={"group": 7})) == K

    async def count_by_field() -> None:
        assert await collection.count({"group": 7}) in (MATCHES, count)

    times = await in_turn(ROUNDS, by_tag, by_field, count_by_field)
    return [
        _row(f"search {MATCHES:,} of {count:,} chunks by a tag", times[0], None, ""),
        _row(f"search {MATCHES:,} of {count:,} records by a field", times[1], times[0], "1.5"),
        _row(f"count {MATCHES:,} of {count:,} records by a field", times[2], None, ""),
    ]


def _row(name: str, times: list[float], beside: list[float] | None, target: str) -> Measurement:
    limit = target
    if beside is not None and target:
        ratio = statistics.median(one / other for one, other in zip(times, beside, strict=True))
        limit = f"{ratio:.2f} times (target: {target})"
    return row(name, times, limit)


def _text(number: int) -> str:
    words = random.Random(number).choices(_WORDS, k=60)
    return f"{number} {' '.join(words)}"


_WORDS = [
    f"{a}{b}{c}" for a in ("ka", "lo", "mi", "ru") for b in ("ta", "ne", "so", "bi") for c in ("n", "r", "l", "s")
]


def _metadata(number: int) -> dict[str, Any]:
    return {f"field{i}": f"value {number % (i + 2)}" if i % 2 else number % (i + 50) for i in range(FIELDS)}


def _vectors(seed: int, count: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed + 1).normal(size=(count, 256)).astype(np.float32)


if __name__ == "__main__":
    main()
