"""`python -m benchmarks.neighbours`: how long an organisation's calls take while another one attacks the server.

For each attack of tests/support/neighbours.py: the p99 of sixty calls of each kind, beside that of an idle time just
before, and the most memory that the server's process had. `--program` names another installed `xtrace`, such as an
older release, and can be given several times. A call that was refused or failed counts as endless.
"""

import argparse
import math
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import httpx2

from benchmarks.harness import machine
from xtrace_server.credentials import CREDENTIALS_FILE, read_credentials

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support.neighbours import ATTACKS, MAX_CONNECTIONS, World, attacking, p99

_SETTINGS: Final = ("request_timeout_s=20", f"max_connections={MAX_CONNECTIONS}", "cache_bytes=134217728")


class Memory(threading.Thread):
    """The most memory that a process had of its own, in bytes, from its start until it is told to end."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._status = Path(f"/proc/{pid}/status")
        self._ended = threading.Event()
        self.most = 0

    def run(self) -> None:
        while not self._ended.wait(0.1):
            with suppress(OSError):
                for size in re.findall(r"RssAnon:\s+(\d+) kB", self._status.read_text()):
                    self.most = max(self.most, int(size) * 1024)

    def end(self) -> int:
        """Returns the most there was."""
        self._ended.set()
        self.join()
        return self.most


@contextmanager
def served(program: str, folder: Path) -> Iterator[tuple[World, int]]:
    """A server of the program, with two organisations; its process id."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("XTRACE_")}
    options = [part for one in _SETTINGS for part in ("--set", one)]
    command = [program, "serve", "--data", str(folder), "--port", str(port), *options]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:  # noqa: S603
        try:
            while not _is_ready(port):
                time.sleep(0.1)
            written = folder / "neighbour.json"
            create = [program, "org", "create", "neighbour", "--data", str(folder), "--write", str(written)]
            subprocess.run(create, env=environment, check=True, capture_output=True)  # noqa: S603
            world = World(read_credentials(folder / CREDENTIALS_FILE), read_credentials(written))
            yield world, process.pid
            world.close()
        finally:
            process.kill()


def _is_ready(port: int) -> bool:
    try:
        return httpx2.get(f"http://127.0.0.1:{port}/readyz", timeout=5).status_code == 200
    except httpx2.TransportError:
        return False


def _shown(seconds: float) -> str:
    return f"{seconds:.2f}" if math.isfinite(seconds) else "refused"


def measure(program: str, rounds: int, names: list[str]) -> None:
    """Prints a table of the attacks."""
    for attack, clients in ATTACKS:
        if names and attack.__name__ not in names:
            continue
        with tempfile.TemporaryDirectory() as folder, served(program, Path(folder)) as (world, pid):
            idle = world.latencies(rounds, must_succeed=False)
            memory = Memory(pid)
            memory.start()
            with attacking(world, lambda http, attack=attack, world=world: attack(world, http), clients):  # type: ignore[misc]
                attacked = world.latencies(rounds, must_succeed=False)
            cells = [f"{_shown(p99(attacked[name]))}/{_shown(p99(idle[name]))}" for name in idle]
            label = f"{clients} x {attack.__name__.replace('_', ' ')}"
            print(f"| {label} | " + " | ".join([*cells, f"{memory.end() / 2**20:.0f}"]) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", action="append", help="an installed xtrace; by default this one")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("attacks", nargs="*", help="names of attacks; by default all")
    given = parser.parse_args()
    for program in given.program or [str(Path(sys.executable).with_name("xtrace"))]:
        print(f"{program}: p99 in seconds, attacked/idle")
        print("| attack | insert | search | page | key change | probe | MiB |\n|---|---|---|---|---|---|---|")
        measure(program, given.rounds, given.attacks)
    print(machine())


if __name__ == "__main__":
    main()
