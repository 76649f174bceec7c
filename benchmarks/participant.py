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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from benchmarks.bounds import Bounds
from xtrace_core.arithmetic import Rows, arithmetic, row_width
from xtrace_core.schemes.interface import Evaluation
from xtrace_core.schemes.registry import SchemeRegistry
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.schemes.paillier.primes import prime_with_two_top_bits
from xtrace_sdk.x_vec.schemes.paillier.scheme import PaillierScheme
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
from xtrace_server.search.running import BLOCK_BYTES

MANY = 5
"""Times as many rows as vectors, for what is so quick that a batch would be over before the second thread is awake."""

WARM_UP = 8
"""Before a batch is timed, one part in so many of it is done: processes that wait for each other wake up cold."""


@dataclass(frozen=True, slots=True)
class Task:
    """What to do with the items of a batch, and how many products one of them takes at least (0: not counted)."""

    work: Callable[[slice], object]
    items: int = 1
    products: int = 0

    def seconds(self) -> tuple[float, float]:
        """On the wall and of this thread, for the whole batch."""
        self.work(slice(-(-self.items // WARM_UP)))
        batch = slice(self.items)
        started, cpu = time.perf_counter(), time.thread_time()
        self.work(batch)
        return time.perf_counter() - started, time.thread_time() - cpu


def scheme_tasks(scheme: str, key_len: int, embed_len: int, count: int, reads: int, folder: Path) -> dict[str, Task]:
    """What a client and the service do, by name, for `count` vectors and `reads` answers."""
    provider = PassphraseKeyProvider(secrets.token_urlsafe(), insecure_log2_n=1)  # key derivation apart
    context = ExecutionContext.create(provider, scheme, embed_len, key_len)
    path = folder / f"{scheme}.json"
    context.save_to_disk(path)
    client = cast("PaillierScheme", context.homomorphic)
    vectors = np.frombuffer(secrets.token_bytes(count * embed_len), dtype=np.uint8).reshape(count, embed_len) & 1
    lists = vectors.tolist()
    index, query = client.encrypt_vec_batch(vectors), client.encrypt_query(vectors[0])
    evaluation = SchemeRegistry().evaluation(client.type, context.public_data()["pk"])
    rows = index.rows.reshape(count, -1)
    answers = evaluation.evaluate(rows, [query.ciphertexts]).reshape(index.rows.shape)
    answers, nonces = _repeated(answers, reads), _repeated(index.nonces, reads)
    rows = _repeated(rows, MANY * count)
    return {
        f"{scheme}: create a context": Task(lambda _: ExecutionContext.create(provider, scheme, embed_len, key_len)),
        f"{scheme}: load a context": Task(lambda _: ExecutionContext.load_from_disk(path=path, key_provider=provider)),
        f"{scheme}: encrypt a vector": Task(lambda part: client.encrypt_vec_batch(vectors[part]), count),
        f"{scheme}: encrypt a vector, from lists": Task(lambda part: client.encrypt_vec_batch(lists[part]), count),
        f"{scheme}: encrypt a query": Task(lambda _: client.encrypt_query(vectors[0])),
        f"{scheme}: read a distance": Task(
            lambda part: client.read_distances(answers[part], nonces[part], query), reads
        ),
        f"{scheme}: read a distance, both primes": Task(
            lambda part: client.confirm_distances(answers[part], nonces[part], query), min(count, reads)
        ),
        f"{scheme}: multiply a row": Task(lambda part: _scan(evaluation, rows[part], query.ciphertexts), len(rows)),
    }


def _repeated(array: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """So many rows: those of the array, again and again."""
    return np.resize(array, (count, *array.shape[1:]))


def _scan(evaluation: Evaluation, rows: Rows, query: list[bytes]) -> None:
    """As the service does it, a block after another."""
    step = BLOCK_BYTES // rows.shape[1]
    for start in range(0, len(rows), step):
        evaluation.evaluate(rows[start : start + step], [query])


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
    digits = np.resize(bits, (count, 5 * key_len // 4))
    in_digits = arithmetic.encode_digits(digits)
    short, long = secrets.randbits(256) | 1 << 255, p - 1
    counted = Bounds.of(arithmetic, key_len)
    return {
        "kernel: multiply modulo n²": Task(lambda part: scan(rows[part]), count, counted.scan()),
        "kernel: fixed base, 32 entries, encrypt modulo p²": Task(
            lambda part: square.encrypt(messages[part], table, exponents[part]), count, counted.fixed_encrypt(32)
        ),
        "kernel: fixed base, 32 entries, read modulo p²": Task(
            lambda part: square.read(rows[part], table, exponents[part]), count, counted.fixed_read(32)
        ),
        "kernel: shared exponent of 256 bits, read": Task(
            lambda part: square.read_power(rows[part], short), few, counted.power_read(256)
        ),
        f"kernel: shared exponent of {key_len} bits, read": Task(
            lambda part: square.read_power(rows[part], long), few, counted.power_read(key_len)
        ),
        "kernel: join modulo p² and q²": Task(lambda part: join(halves[part], halves[part]), count, counted.scan()),
        "kernel: encode 512 bits": Task(lambda part: arithmetic.encode_slots(bits[part]), count),
        "kernel: count 512 slots": Task(lambda part: arithmetic.count_slots(messages[part], 512), count),
        f"kernel: encode {digits.shape[1]} bits in base 3": Task(
            lambda part: arithmetic.encode_digits(digits[part]), count
        ),
        f"kernel: count {digits.shape[1]} digits to base 3": Task(
            lambda part: arithmetic.count_digits(in_digits[part], digits.shape[1]), count
        ),
    }


def main() -> None:
    """Serves tasks until standard input ends."""
    settings: dict[str, Any] = json.loads(sys.stdin.readline())
    key_len, embed_len, count = settings["key_len"], settings["dimensions"], settings["count"]
    with tempfile.TemporaryDirectory() as folder:
        tasks = scheme_tasks("paillier_lookup", key_len, embed_len, count, MANY * count, Path(folder))
        tasks |= scheme_tasks("paillier", key_len, embed_len, count // 4, count // 4, Path(folder))
        tasks |= kernel_tasks(key_len, count)
        sizes = {name: {"items": task.items, "products": task.products} for name, task in tasks.items()}
        print(json.dumps(sizes), flush=True)
        for line in sys.stdin:
            print(json.dumps(tasks[json.loads(line)["task"]].seconds()), flush=True)


if __name__ == "__main__":
    main()
