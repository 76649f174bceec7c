"""`python -m benchmarks.compare`: every backend, the bare gmpy2 loop and `phe`, one after another, round after round.

Each backend works in a process of its own; the rounds go through all of them in turn, so that a machine that drifts or
is busy treats them alike. Before each batch a part of it is done untimed (`benchmarks.participant`), for a process that
has waited for the others finds cold caches and a sleeping second processor. Writes JSON; `python -m benchmarks.page`
makes docs/performance.md of it.
"""

import argparse
import json
import os
import platform
import resource
import secrets
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import phe
from gmpy2 import mpz

from benchmarks.harness import machine
from benchmarks.participant import Task
from xtrace_core.arithmetic.backends import backends

RESULTS = Path(__file__).parent / "results.json"

_CLOCK = """
int main(int count, char **arguments) {
    unsigned long x = (unsigned long)count;
    (void)arguments;
    for (long i = 0; i < 50000000; i++)
        __asm__ volatile("add $1,%0\\nadd $1,%0\\nadd $1,%0\\nadd $1,%0" : "+r"(x));
    return x == 0;
}
"""


class Participant:
    """A process that does tasks."""

    def __init__(self, backend: str, threads: int, settings: dict[str, int], constant_time: bool = False) -> None:
        environment = {
            **os.environ,
            "XTRACE_ARITHMETIC": backend,
            "XTRACE_THREADS": str(threads),
            "XTRACE_CONSTANT_TIME": str(int(constant_time)),
        }
        command = [sys.executable, "-m", "benchmarks.participant"]
        self.process = subprocess.Popen(  # noqa: S603
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.backend, self.threads = backend, threads
        self.tasks: dict[str, dict[str, int]] = self.ask(settings)

    def ask(self, message: Any) -> Any:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def seconds(self, task: str) -> float:
        """Of one item: the thread's own if there is one, for others use the processor too; else the clock's."""
        wall, cpu = self.ask({"task": task})
        return float(cpu if self.threads == 1 else wall) / self.tasks[task]["items"]

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def others(key_len: int) -> dict[str, tuple[str, Task]]:
    """The bare loop over gmpy2 integers, and `phe` with keys as long: `(who, what it does)` by task."""
    public, private = phe.generate_paillier_keypair(n_length=2 * key_len)
    numbers = [secrets.randbits(1024) for _ in range(8)]
    encrypted = [public.raw_encrypt(number) for number in numbers]
    n_squared, factor = mpz(public.nsquare), mpz(secrets.randbelow(public.nsquare))
    rows = [mpz(secrets.randbelow(public.nsquare)) for _ in range(400)]

    return {
        "paillier: encrypt a vector": ("phe", Task(lambda part: [public.raw_encrypt(one) for one in numbers[part]], 8)),
        "paillier: read a distance": ("phe", Task(lambda part: [private.raw_decrypt(c) for c in encrypted[part]], 8)),
        "paillier_lookup: multiply a row": (
            "gmpy2 loop",
            Task(lambda part: [c * factor % n_squared for c in rows[part]], len(rows)),
        ),
    }


def clock_hertz(compiler: str = "cc") -> float:
    """Cycles a second, by additions that wait for each other, one a cycle."""
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder) / "clock.c", Path(folder) / "clock"
        source.write_text(_CLOCK)
        subprocess.run([compiler, "-O1", source, "-o", program], check=True)  # noqa: S603
        times = []
        for _ in range(5):
            before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
            subprocess.run([program], check=False)  # noqa: S603
            times.append(resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before)
    return 2e8 / min(times)


def compare(settings: dict[str, int], rounds: int) -> dict[str, Any]:
    """All measurements, in seconds for one item."""
    names = list(backends(threads=1))
    participants = [Participant(name, 1, settings) for name in names]
    participants += [Participant(name, 2, settings) for name in names if name != "portable"]
    times: dict[tuple[str, str], list[float]] = {}
    items: dict[tuple[str, str], int] = {}
    rest = others(settings["key_len"])
    for number in range(rounds + 1):  # the first is not counted
        for task in participants[0].tasks:
            for one in participants:
                label = one.backend if one.threads == 1 else f"{one.backend}, {one.threads} threads"
                items[task, label] = one.tasks[task]["items"]
                times.setdefault((task, label), []).append(one.seconds(task))
            if task in rest:
                who, own = rest[task]
                items[task, who] = own.items
                times.setdefault((task, who), []).append(own.seconds()[1] / own.items)
        print(f"round {number} of {rounds}", file=sys.stderr)
    hertz = clock_hertz()
    products = {one.backend: one.tasks for one in participants if one.threads == 1}
    for one in participants:
        one.close()
    rows = []
    for (task, who), all_seconds in times.items():
        seconds = all_seconds[1:]
        row: dict[str, Any] = {
            "task": task,
            "who": who,
            "items": items[task, who],
            "median": statistics.median(seconds),
            "lowest": min(seconds),
            "highest": max(seconds),
        }
        if who in products and products[who].get(task, {}).get("products"):
            rate = {"ifma": 8, "avx2": 16}[who] * hertz  # instructions a second, for single rows
            row["bound"] = products[who][task]["products"] / rate
        rows.append(row)
    return {
        "machine": machine(),
        "processors": os.cpu_count(),
        "hertz": hertz,
        "phe": version("phe"),
        "python": platform.python_version(),
        "rounds": rounds,
        **settings,
        "rows": rows,
    }


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    parser.add_argument("--key-len", type=int, default=1024)
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--count", type=int, default=2048, help="vectors a batch (paillier: a quarter)")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    settings = {"key_len": arguments.key_len, "dimensions": arguments.dimensions, "count": arguments.count}
    results = compare(settings, arguments.rounds)
    arguments.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
