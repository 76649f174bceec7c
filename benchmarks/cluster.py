"""`python -m benchmarks.cluster`: searches in a Ray cluster on this machine, beside threads of one server, in turn.

Needs the extra `ray`. Each of the four servers is over the same database; the load discards the answers.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from benchmarks.connections import prepare, run_load
from benchmarks.databases import served
from benchmarks.harness import machine
from xtrace_server.credentials import Credentials

ROUNDS: Final = 7
NAMES: Final = ("one thread", "two threads", "one Ray worker", "two Ray workers")
SMALL: Final = 20_000
"""What the overhead of a search is measured with."""


@contextmanager
def ray_nodes(count: int) -> Iterator[str]:
    """A cluster whose head computes nothing, with nodes of one processor; its address."""
    from ray.cluster_utils import Cluster

    size = {"object_store_memory": 256 * 2**20}
    cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **size})
    try:
        for _ in range(count):
            cluster.add_node(num_cpus=1, **size)
        yield str(cluster.address)
    finally:
        cluster.shutdown()


@contextmanager
def another(folder: Path, first: Credentials, port: int, *settings: str) -> Iterator[Credentials]:
    """A further server over the folder."""
    options = [part for one in settings for part in ("--set", one)]
    command = [sys.executable, "-m", "xtrace_cli", "serve", "--data", str(folder), "--port", str(port), "--shared"]
    with subprocess.Popen([*command, *options], stderr=subprocess.DEVNULL) as process:  # noqa: S603
        try:
            yield msgspec.structs.replace(first, api_url=f"http://127.0.0.1:{port}")
        finally:
            process.terminate()


def medians(servers: list[Credentials], body: dict[str, Any], rounds: int) -> list[float]:
    """The median seconds of a search at each server, measured in turn."""
    times: list[list[float]] = [[] for _ in servers]
    for server in servers:
        run_load(server, body, 1, 2)
    for _ in range(rounds):
        for server, own in zip(servers, times, strict=True):
            own += run_load(server, body, 1, 1)["seconds"]
    return [statistics.median(own) for own in times]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=200_000)
    chunks = parser.parse_args().chunks
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "data"
        with served(folder, None) as first:
            large, small = asyncio.run(prepare(first, chunks)), asyncio.run(prepare(first, SMALL))
        port = int(os.environ.get("XTRACE_TEST_PORT", "18400"))
        clusters = [stack.enter_context(ray_nodes(count)) for count in (1, 2)]
        each = [["search_threads=1"], ["search_threads=2"]]
        each += [["engine=ray", f"ray_address={address}", "ray_min_rows=10000"] for address in clusters]
        servers = [
            stack.enter_context(another(folder, first, port + number, *settings))
            for number, settings in enumerate(each)
        ]
        time.sleep(30)  # until they have started, and are connected
        found, few = medians(servers, large, ROUNDS), medians(servers, small, 3 * ROUNDS)
    for name, seconds, small_seconds in zip(NAMES, found, few, strict=True):
        print(f"{name:16} {seconds * 1000:9.0f} ms for {chunks:,} {small_seconds * 1000:9.0f} ms for {SMALL:,}")
    local, ray = found[0] / found[1], found[2] / found[3]
    print(
        f"gain of the second thread {local:.2f}, of the second worker {ray:.2f}: {ray / local:.2f} of it (target: 0.8)"
    )
    print(f"two workers beside two threads: {found[1] / found[3]:.2f} times as fast")
    print(f"overhead of a search of {SMALL:,}: {(few[3] - few[1]) * 1000:.0f} ms (target: 60)")
    print(machine())


if __name__ == "__main__":
    main()
