"""`python -m benchmarks.cluster`: searches in a Ray cluster on this machine, beside threads of one server, in turn.

Needs the extra `ray`, and Linux. All servers are over the same database; the load discards the answers. `--beside`
names the Python of another installation, such as an older release, whose cluster of two nodes is measured too.
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
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from benchmarks.connections import prepare, run_load
from benchmarks.databases import served
from benchmarks.harness import machine
from xtrace_server.credentials import Credentials

ROUNDS: Final = 7
SMALL: Final = 20_000
"""What the overhead of a search is measured with."""
_NODES: Final = Path(__file__).with_name("ray_nodes.py")


@dataclass
class Variant:
    """A server, with its cluster if it has one, and what its searches cost."""

    name: str
    server: Credentials
    processes: list[int]
    """The server's process and the cluster's; all others are below these."""
    seconds: list[float] = field(default_factory=list)
    processor_seconds: list[float] = field(default_factory=list)

    def search(self, body: dict[str, Any]) -> None:
        """Searches once, and notes the time."""
        before = processor_time(self.processes)
        self.seconds += run_load(self.server, body, 1, 1)["seconds"]
        self.processor_seconds.append(processor_time(self.processes) - before)


@contextmanager
def ray_nodes(python: str, count: int) -> Iterator[tuple[str, int]]:
    """A cluster of so many nodes of one processor: its address and its process."""
    pipe, command = subprocess.PIPE, [python, str(_NODES), str(count)]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL) as process:  # noqa: S603
        assert process.stdin is not None
        assert process.stdout is not None
        yield process.stdout.readline().decode().strip(), process.pid
        process.stdin.close()


@contextmanager
def another(python: str, folder: Path, first: Credentials, port: int, *settings: str) -> Iterator[tuple[Any, int]]:
    """A further server over the folder: its credentials and its process."""
    options = [part for one in settings for part in ("--set", one)]
    command = [python, "-m", "xtrace_cli", "serve", "--data", str(folder), "--port", str(port), "--shared"]
    with subprocess.Popen([*command, *options], stderr=subprocess.DEVNULL) as process:  # noqa: S603
        try:
            yield msgspec.structs.replace(first, api_url=f"http://127.0.0.1:{port}"), process.pid
        finally:
            process.terminate()


def processor_time(roots: list[int]) -> float:
    """The seconds that these processes and all below them have computed."""
    below: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                below.setdefault(parent, []).append(int(folder.name))
    waiting, seconds = list(roots), 0.0
    while waiting:
        pid = waiting.pop()
        waiting += below.get(pid, [])
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                seconds += int((thread / "schedstat").read_text().split()[0]) / 1e9
    return seconds


def measure(variants: list[Variant], body: dict[str, Any], rounds: int) -> None:
    """Searches at each server in turn; forgets what was measured before."""
    for one in variants:
        one.search(body)
        one.search(body)
        one.seconds.clear()
        one.processor_seconds.clear()
    for _ in range(rounds):
        for one in variants:
            one.search(body)
    for one in variants:
        wall, processor = map(statistics.median, (one.seconds, one.processor_seconds))
        print(f"{one.name:36} {wall * 1000:9.0f} ms {processor * 1000:9.0f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=200_000)
    parser.add_argument("--beside", metavar="PYTHON", action="append", default=[])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "data"
        with served(folder, None) as first:
            large, small = asyncio.run(prepare(first, given.chunks)), asyncio.run(prepare(first, SMALL))
        variants: list[Variant] = []

        def add(name: str, python: str = sys.executable, *, nodes: int = 0, settings: tuple[str, ...] = ()) -> None:
            processes = []
            if nodes:
                address, pid = stack.enter_context(ray_nodes(python, nodes))
                settings = ("engine=ray", f"ray_address={address}", "ray_min_rows=10000")
                processes.append(pid)
            port = int(os.environ.get("XTRACE_TEST_PORT", "18400")) + len(variants)
            server, pid = stack.enter_context(another(python, folder, first, port, *settings))
            variants.append(Variant(name, server, [*processes, pid]))

        add("one thread", settings=("search_threads=1",))
        add("two threads", settings=("search_threads=2",))
        add("one Ray worker", nodes=1)
        add("two Ray workers", nodes=2)
        for python in given.beside:
            add(f"two Ray workers of {python}"[-36:], python, nodes=2)
        time.sleep(30)  # until they have started, and are connected
        print(f"{f'a search of {given.chunks:,}':36} {'median':>12} {'processors':>12}")
        measure(variants, large, given.rounds)
        found = [statistics.median(one.seconds) for one in variants]
        print(f"{f'a search of {SMALL:,}':36} {'median':>12} {'processors':>12}")
        measure(variants, small, 3 * given.rounds)
        few = [statistics.median(one.seconds) for one in variants]
    local, ray = found[0] / found[1], found[2] / found[3]
    print(
        f"gain of the second thread {local:.2f}, of the second worker {ray:.2f}: {ray / local:.2f} of it (target: 0.8)"
    )
    print(f"two workers beside two threads: {found[1] / found[3]:.2f} times as fast")
    for one, seconds in zip(variants[3:], few[3:], strict=True):
        overhead = (seconds - few[1]) * 1000
        print(f"overhead of a search of {SMALL:,}, {one.name}: {overhead:.0f} ms (target: 60)")
    print(machine())


if __name__ == "__main__":
    main()
