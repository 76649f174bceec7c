"""One backend in a process of its own, for `benchmarks.compare`: does a task when told to, says how long it took.

The backend is chosen by `XTRACE_ARITHMETIC`, as everywhere. Lines of JSON come in on standard input, first the sizes,
then a task each; out go first the names of the tasks, then for each `[seconds on the wall, seconds of this thread]`.
"""

import json
import secrets
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bounds import Bounds
from xtrace_core.arithmetic import arithmetic, row_width
from xtrace_core.evaluation import evaluation_for
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.crypto.primes import prime_with_two_top_bits
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

Task = tuple[Callable[[], object], int, int]
"""What to do, how many items it is, and how many products one of them takes at least (0: not counted)."""


def scheme_tasks(scheme: str, key_len: int, embed_len: int, count: int, folder: Path) -> dict[str, Task]:
    """What a client and the service do, by name."""
    provider = PassphraseKeyProvider(secrets.token_urlsafe(), insecure_log2_n=1)  # key derivation apart
    context = ExecutionContext.create(provider, scheme, embed_len, key_len)
    path = folder / f"{scheme}.json"
    context.save_to_disk(path)
    client = context.homomorphic
    vectors = np.frombuffer(secrets.token_bytes(count * embed_len), dtype=np.uint8).reshape(count, embed_len) & 1
    lists = vectors.tolist()
    index, query = client.encrypt_vec_batch(vectors), client.encrypt_query(vectors[0])
    evaluation = evaluation_for(client.type, context.public_data()["pk"])
    rows = np.ascontiguousarray(index.rows.reshape(count, -1))
    answers = evaluation.evaluate(rows, query.ciphertexts).reshape(index.rows.shape)
    return {
        f"{scheme}: create a context": (lambda: ExecutionContext.create(provider, scheme, embed_len, key_len), 1, 0),
        f"{scheme}: load a context": (
            lambda: ExecutionContext.load_from_disk(path=path, key_provider=provider),
            1,
            0,
        ),
        f"{scheme}: encrypt a vector": (lambda: client.encrypt_vec_batch(vectors), count, 0),
        f"{scheme}: encrypt a vector, from lists": (lambda: client.encrypt_vec_batch(lists), count, 0),
        f"{scheme}: encrypt a query": (lambda: client.encrypt_query(vectors[0]), 1, 0),
        f"{scheme}: read a distance": (lambda: client.read_distances(answers, index.nonces, query), count, 0),
        f"{scheme}: read a distance, both primes": (
            lambda: client.confirm_distances(answers, index.nonces, query),
            count,
            0,
        ),
        f"{scheme}: multiply a row": (lambda: evaluation.evaluate(rows, query.ciphertexts), count, 0),
    }


def kernel_tasks(key_len: int, count: int) -> dict[str, Task]:
    """The kernels alone, for random numbers of the size that keys have."""
    p, q = prime_with_two_top_bits(key_len), prime_with_two_top_bits(key_len)
    n_squared = (p * q) ** 2
    width, few = row_width(n_squared), max(8, count // 20)
    rows = np.frombuffer(secrets.token_bytes(count * width), dtype=np.uint8).reshape(count, width)
    exponents = np.ascontiguousarray(rows[:, :32])
    messages, halves = np.ascontiguousarray(rows[:, : key_len // 8]), rows[:, : row_width(p * p)]
    scan, join = arithmetic.multiplier(n_squared // 3, n_squared), arithmetic.joiner(p * p, q * q)
    square, table = arithmetic.prime_square(p, q), arithmetic.fixed_base_table(3, 32, p * p)
    bits = rows[:, :512] & np.uint8(1)
    short, long = secrets.randbits(256) | 1 << 255, p - 1
    counted = Bounds.of(arithmetic, key_len)
    return {
        "kernel: multiply modulo n²": (lambda: scan(rows), count, counted.scan()),
        "kernel: fixed base, 32 entries, encrypt modulo p²": (
            lambda: square.encrypt(messages, table, exponents),
            count,
            counted.fixed_encrypt(32),
        ),
        "kernel: fixed base, 32 entries, read modulo p²": (
            lambda: square.read(rows, table, exponents),
            count,
            counted.fixed_read(32),
        ),
        "kernel: shared exponent of 256 bits, read": (
            lambda: square.read_power(rows[:few], short),
            few,
            counted.power_read(256),
        ),
        f"kernel: shared exponent of {key_len} bits, read": (
            lambda: square.read_power(rows[:few], long),
            few,
            counted.power_read(key_len),
        ),
        "kernel: join modulo p² and q²": (lambda: join(halves, halves), count, counted.scan()),
        "kernel: encode 512 bits": (lambda: arithmetic.encode_slots(bits), count, 0),
        "kernel: count 512 slots": (lambda: arithmetic.count_slots(messages, 512), count, 0),
    }


def main() -> None:
    """Serves tasks until standard input ends."""
    settings: dict[str, Any] = json.loads(sys.stdin.readline())
    key_len, embed_len, count = settings["key_len"], settings["dimensions"], settings["count"]
    with tempfile.TemporaryDirectory() as folder:
        tasks = scheme_tasks("paillier_lookup", key_len, embed_len, count, Path(folder))
        tasks |= scheme_tasks("paillier", key_len, embed_len, count // 4, Path(folder))
        tasks |= kernel_tasks(key_len, count)
        print(json.dumps({name: {"items": task[1], "products": task[2]} for name, task in tasks.items()}), flush=True)
        for line in sys.stdin:
            work = tasks[json.loads(line)["task"]][0]
            started, cpu = time.perf_counter(), time.thread_time()
            work()
            print(json.dumps([time.perf_counter() - started, time.thread_time() - cpu]), flush=True)


if __name__ == "__main__":
    main()
