"""`python -m benchmarks.authentication`: what it costs that every row authenticates its vector.

Each backend works in a process of its own, with one thread. In every round the same answer, a block as the service
sends it, is read in both ways, one right after the other and in changing order: the noise is taken away and checked,
and then either the query is subtracted and the nonce recomputed, as a search does it, or the distance is counted from
the sums, as for contexts of other clients. Writes JSON; `python -m benchmarks.page` makes docs/performance.md of it.
"""

import argparse
import json
import os
import secrets
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import machine
from xtrace_core.arithmetic import Rows
from xtrace_core.arithmetic.backends import backends
from xtrace_core.schemes.registry import SchemeRegistry
from xtrace_sdk.x_vec.schemes.bits import differing
from xtrace_sdk.x_vec.schemes.paillier.lookup import PaillierLookupClient
from xtrace_server.search.running import BLOCK_BYTES

RESULTS = Path(__file__).parent / "authentication.json"
KEY_LEN = 1024
DIMENSIONS = (512, 1280, 4096)
"""In base 4 in one ciphertext, in base 3 in one, in base 4 in five."""


class Reading:
    """One block of an answer, and the ways to read it."""

    def __init__(self, dimensions: int) -> None:
        self.client = client = PaillierLookupClient.generate(dimensions, KEY_LEN)
        query_size = len(client.stored_rows_query()) * 4 * KEY_LEN // 8
        self.rows = BLOCK_BYTES // query_size
        bits = np.frombuffer(secrets.token_bytes(self.rows * dimensions), dtype=np.uint8) & np.uint8(1)
        vectors = bits.reshape(self.rows, dimensions)
        index, self.query = client.encrypt_vec_batch(vectors), client.encrypt_query(vectors[0])
        evaluation = SchemeRegistry().evaluation(client.type, json.dumps(client.public_key()))
        products = evaluation.evaluate(index.rows.reshape(self.rows, -1), [self.query.ciphertexts])
        self.products, self.nonces = products.reshape(index.rows.shape), index.nonces

    def _sums(self) -> list[Rows]:
        return self.client._sums(self.products, self.nonces, self.query, self.client._one_prime)[0]

    def authenticated(self) -> tuple[float, float]:
        """Seconds of this thread for the whole reading, and for its last step."""
        client, began = self.client, time.thread_time()
        sums = self._sums()
        middle = time.thread_time()
        packed, valid = client._encoding.vectors(sums, self.query.messages)
        valid &= client._authenticated(self.nonces, packed)
        differing(packed, self.query.packed)
        ended = time.thread_time()
        assert valid.all()
        return ended - began, ended - middle

    def counted(self) -> tuple[float, float]:
        """The same without authentication."""
        began = time.thread_time()
        sums = self._sums()
        middle = time.thread_time()
        self.client._encoding.distances(sums)
        ended = time.thread_time()
        return ended - began, ended - middle


def measure(dimensions: int, rounds: int) -> dict[str, Any]:
    """Medians over the rounds, in seconds for one row; `more` is the median of the differences of the last steps."""
    reading = Reading(dimensions)
    rounds_done = [_round(reading, number % 2 == 0) for number in range(rounds + 1)][1:]  # the first is not counted
    medians = {
        "read": statistics.median(one[0] for one, _ in rounds_done),
        "read_without": statistics.median(other[0] for _, other in rounds_done),
        "step": statistics.median(one[1] for one, _ in rounds_done),
        "more": statistics.median(one[1] - other[1] for one, other in rounds_done),
    }
    per_row = {what: seconds / reading.rows for what, seconds in medians.items()}
    return {"dimensions": dimensions, "rows": reading.rows, "base": reading.client._encoding.base, **per_row}


def _round(reading: Reading, authenticated_first: bool) -> tuple[tuple[float, float], tuple[float, float]]:
    if authenticated_first:
        return reading.authenticated(), reading.counted()
    other = reading.counted()
    return reading.authenticated(), other


def compare(rounds: int) -> dict[str, Any]:
    """All measurements, each backend in a process of its own."""
    rows = []
    for backend in backends(threads=1):
        for dimensions in DIMENSIONS:
            command = [sys.executable, "-m", "benchmarks.authentication", "--rounds", str(rounds)]
            environment = {**os.environ, "XTRACE_ARITHMETIC": backend, "XTRACE_THREADS": "1"}
            done = subprocess.run(  # noqa: S603
                [*command, "--dimensions", str(dimensions)], env=environment, stdout=subprocess.PIPE, check=True
            )
            rows.append({"backend": backend, **json.loads(done.stdout)})
    return {"machine": machine(), "key_len": KEY_LEN, "rounds": rounds, "rows": rows}


def main() -> None:
    """Measures all and writes; with `--dimensions` this process's backend alone, and prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.authentication", description=__doc__)
    parser.add_argument("--dimensions", type=int)
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if arguments.dimensions:
        print(json.dumps(measure(arguments.dimensions, arguments.rounds)))
        return
    arguments.output.write_text(json.dumps(compare(arguments.rounds), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
