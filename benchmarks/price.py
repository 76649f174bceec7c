"""What the bits of a vector cost, by their number: for docs/recall.md."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import measure
from xtrace_core.schemes.registry import SchemeRegistry
from xtrace_sdk.x_vec.chunks.superbit import superbits
from xtrace_sdk.x_vec.contexts.saved_context import canonical_json
from xtrace_sdk.x_vec.schemes.interface import SchemeParameters
from xtrace_sdk.x_vec.schemes.registry import create_client

LENGTHS: Final = (256, 512, 768, 1023, 1291, 1536)
KEY_LEN: Final = 1024
_ROWS: Final = 2000
_DIM: Final = 256
_ROUNDS: Final = 9


def price() -> list[dict[str, Any]]:
    """For each length the bytes that are stored and answered for a vector, and microseconds, medians, for each vector:
    to read an answer, and to make the bits of 256 dimensions."""
    floats = np.random.default_rng(1).normal(size=(_ROWS, _DIM)).astype(np.float32)
    tasks: dict[str, Callable[[], object]] = {}
    stored: dict[int, int] = {}
    for bits in LENGTHS:
        tasks[f"make {bits}"] = partial(superbits, floats, bits)
        tasks[f"read {bits}"], stored[bits] = _reading(superbits(floats, bits))
    measured = measure(tasks, items=_ROWS, rounds=_ROUNDS)
    return [
        {
            "bits": bits,
            "bytes": stored[bits],
            "read_us": round(1000 * measured[f"read {bits}"].median_ms, 2),
            "make_us": round(1000 * measured[f"make {bits}"].median_ms, 1),
        }
        for bits in LENGTHS
    ]


def _reading(vectors: NDArray[np.uint8]) -> tuple[Callable[[], object], int]:
    """What reads the service's answers for all vectors, and the bytes of one of them."""
    client = create_client("paillier_lookup", vectors.shape[1], SchemeParameters(KEY_LEN))
    evaluation = SchemeRegistry().evaluation(client.type, canonical_json(client.public_key()).decode())
    index, queries = client.encrypt_vec_batch(vectors), client.encrypt_queries(vectors[:1])
    stored = b"".join([evaluation.row(one.ciphertexts()) for one in index])
    rows = np.frombuffer(stored, dtype=np.uint8).reshape(len(vectors), -1)
    count, width = evaluation.answer_shape(queries.sent)
    answers = evaluation.evaluate(rows, queries.sent).reshape(len(vectors), count, width)
    nonces = [one.nonce for one in index]
    return partial(queries.read, answers, nonces), count * width
