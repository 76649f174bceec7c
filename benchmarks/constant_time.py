"""`python -m benchmarks.constant_time`: what `XTRACE_CONSTANT_TIME=1` costs, by backend.

Two processes for each backend, one with it and one without, do each task one right after the other, round after round,
in an order that changes with the round: what else the machine does then weighs on both. Writes JSON; `python -m
benchmarks.page` makes docs/performance.md of it.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks.compare import Participant
from benchmarks.harness import machine
from xtrace_core.arithmetic.backends import backends

RESULTS = Path(__file__).parent / "constant_time.json"

TASKS = (
    "paillier_lookup: load a context",
    "paillier_lookup: encrypt a vector",
    "paillier_lookup: encrypt a query",
    "paillier_lookup: read a distance",
    "paillier_lookup: read a distance, both primes",
    "paillier: encrypt a vector",
    "paillier: read a distance",
)
"""Those of `benchmarks.participant` in which exponents are secret."""


def rounds_of(backend: str, settings: dict[str, int], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """`(seconds by default, seconds in constant time)` of each round, by task."""
    both = [Participant(backend, 1, settings, constant_time=on) for on in (False, True)]
    times: dict[str, list[tuple[float, float]]] = {task: [] for task in TASKS}
    for number in range(rounds + 1):  # the first is not counted
        for task in TASKS:
            seconds = [0.0, 0.0]
            for which in (0, 1) if number % 2 else (1, 0):
                seconds[which] = both[which].seconds(task)
            times[task].append((seconds[0], seconds[1]))
        print(f"{backend}: round {number} of {rounds}", file=sys.stderr)
    for one in both:
        one.close()
    return {task: pairs[1:] for task, pairs in times.items()}


def row(task: str, who: str, pairs: list[tuple[float, float]]) -> dict[str, Any]:
    """Medians, and the quotients of the rounds."""
    quotients = [hidden / default for default, hidden in pairs]
    return {
        "task": task,
        "who": who,
        "default": statistics.median(default for default, _ in pairs),
        "constant_time": statistics.median(hidden for _, hidden in pairs),
        "quotient": statistics.median(quotients),
        "lowest": min(quotients),
        "highest": max(quotients),
    }


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.constant_time", description=__doc__)
    parser.add_argument("--key-len", type=int, default=1024)
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--count", type=int, default=1024, help="vectors a batch (paillier: a quarter)")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    settings = {"key_len": arguments.key_len, "dimensions": arguments.dimensions, "count": arguments.count}
    times = {who: rounds_of(who, settings, arguments.rounds) for who in backends(threads=1)}
    rows = [row(task, who, of_tasks[task]) for task in TASKS for who, of_tasks in times.items()]
    results = {"machine": machine(), "rounds": arguments.rounds, **settings, "rows": rows}
    arguments.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
