"""`python -m benchmarks.databases URL`: SQLite beside PostgreSQL, each with a server of its own, measured in turn.

URL is that of an empty database on this machine; its PostgreSQL must be set as in production (`fsync = on`).
"""

import argparse
import asyncio
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.harness import machine
from benchmarks.service import in_turn, store
from xtrace_cli.server_process import log_of, wait_until_ready
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
from xtrace_server.credentials import Credentials

KEY_LEN = 1024
NAMES = (
    "search over 1,000, rows in memory",
    "search filtered to 1,000 of all",
    "metadata search, 20 match",
)


@contextmanager
def served(folder: Path, url: str | None, *options: str) -> Iterator[Credentials]:
    """A server outside this process, over the database at the URL or over SQLite in the folder; `options` are those of
    `xtrace serve`.

    Raises `ServerDidNotStart`, with the last line of its log, if it ends or does not answer in time.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("XTRACE_")}
    if url is not None:
        environment["XTRACE_DATABASE_URL"] = url
    command = [sys.executable, "-m", "xtrace_cli", "serve", "--data", str(folder), "--port", "0", *options]
    folder.mkdir(parents=True, exist_ok=True)
    with (
        log_of(folder).open("ab") as log,
        subprocess.Popen(command, env=environment, stdout=log, stderr=log) as process,  # noqa: S603
    ):
        try:
            yield wait_until_ready(process, folder, started=time.time())
        finally:
            process.terminate()


async def calls_of(xtrace: XTraceIntegration, chunks: int) -> tuple[float, list[Callable[[], Awaitable[Any]]]]:
    """Stores the chunks; gives how many a second, and the calls of `NAMES`."""
    provider = PassphraseKeyProvider(secrets.token_urlsafe(), insecure_log2_n=1)
    context = ExecutionContext.create(provider, "paillier_lookup", 512, KEY_LEN)
    await context.save_to_remote(xtrace)
    small, large = [(await xtrace.create_kb(name)).id for name in ("small", "large")]
    await store(xtrace, context.id, small, 1000, KEY_LEN // 2)
    elapsed = await store(xtrace, context.id, large, chunks, KEY_LEN // 2)
    query = context.homomorphic.encrypt_queries([[0] * 512]).sent[0]
    selected = {"tag2": "selected"}
    return chunks / elapsed, [
        lambda: xtrace.compute_hamming_distances(query, context.id, small),
        lambda: xtrace.compute_hamming_distances(query, context.id, large, meta_filter=selected),
        lambda: xtrace.meta_search(large, {"tag1": "rare"}, context.id, False, None),
    ]


async def compare(url: str, chunks: int) -> None:
    """Measures both and prints a row for each call."""
    rates, calls = [], []
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name, database in (("sqlite", None), ("postgres", url)):
            server = stack.enter_context(served(folder / name, database))
            client = XTraceIntegration(server.org_id, server.api_key, server.admin_key, server.api_url)
            rate, own = await calls_of(await stack.enter_async_context(client), chunks)
            rates.append(rate)
            calls.append(own)
        print(f"{'':36} {'SQLite':>12} {'PostgreSQL':>12}")
        print(f"{f'chunks stored a second, of {chunks:,}':36} {rates[0]:12,.0f} {rates[1]:12,.0f}")
        for name, pair in zip(NAMES, zip(*calls, strict=True), strict=True):
            here, there = map(statistics.median, await in_turn(*pair))
            print(f"{name:36} {here:9.1f} ms {there:9.1f} ms   {there / here:.2f} times")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.databases", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--chunks", type=int, default=20_000)
    arguments = parser.parse_args()
    print(machine())
    asyncio.run(compare(arguments.url, arguments.chunks))


if __name__ == "__main__":
    main()
