"""What finds more at the price of 512 bits: the fixed projection `superbit-1`, or one of the others that were tried.

    python -m benchmarks.projections [--output FILE]

All are compared on the passages and queries of `benchmarks.recall`, with bits alone and rescored. A learnt rotation
(ITQ: Gong and Lazebnik, "Iterative quantization", CVPR 2011) sees a random half of the passages. It is measured over
all of them and over the other half, because a collection grows after its rotation was learnt. Writes
benchmarks/projections.json, which `python -m benchmarks.recall_page` puts into docs/recall.md.
"""

import argparse
import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.corpus import python_corpus
from benchmarks.recall import Floats, Row
from xtrace_sdk.x_vec.chunks.superbit import superbits
from xtrace_sdk.x_vec.chunks.vectors import float_to_bits
from xtrace_sdk.x_vec.inference.embedding import Embedding

RESULTS = Path(__file__).parent / "projections.json"
MODEL: Final = ("wordllama", "l2_supercat", 256)
BITS: Final = 512
K: Final = 10
FACTORS: Final = (1, 2, 4)
"""How many times K candidates are rescored; 1 is bits alone."""
_SEED: Final = 1
_ITERATIONS: Final = 50

Projection = Callable[[Floats], NDArray[np.uint8]]


def itq(vectors: Floats, bits: int, random: np.random.Generator) -> Floats:
    """A projection `(dim, bits)` of rotations, each learnt from another random start; bits are a multiple of dim."""
    dim = vectors.shape[1]
    rotations = []
    for _ in range(bits // dim):
        rotation = np.linalg.qr(random.normal(size=(dim, dim)))[0]
        for _ in range(_ITERATIONS):
            # The rotation that brings the vectors nearest to their own signs (orthogonal Procrustes).
            left, _, right = np.linalg.svd(vectors.T @ np.sign(vectors @ rotation))
            rotation = left @ right
        rotations.append(rotation)
    return np.concatenate(rotations, axis=1).astype(np.float32)


def projections(learnt_from: Floats) -> dict[str, Projection]:
    """Every way to make bits, by its name in the docs."""
    random = np.random.default_rng(_SEED)
    mean = learnt_from.mean(axis=0)
    gaussian = random.normal(size=(learnt_from.shape[1], BITS)).astype(np.float32)
    learnt, learnt_centred = itq(learnt_from, BITS, random), itq(learnt_from - mean, BITS, random)
    return {
        "`superbit-1`": lambda floats: superbits(floats, BITS),
        "`superbit-1` of centred vectors": lambda floats: superbits(floats - mean, BITS),
        "independent Gaussian projections": lambda floats: float_to_bits(floats @ gaussian),
        "two rotations learnt from the data (ITQ)": lambda floats: float_to_bits(floats @ learnt),
        "the same, learnt from centred data": lambda floats: float_to_bits((floats - mean) @ learnt_centred),
    }


def recall(passages: Floats, queries: Floats, bits: Projection) -> list[float]:
    """The mean recall at K of unit vectors for each factor of `FACTORS`, rescored by the exact cosine."""
    exact = np.argsort(-(queries @ passages.T), axis=1, kind="stable")[:, :K]
    signs, query_signs = (bits(floats).astype(np.float32) * 2 - 1 for floats in (passages, queries))
    nearest = np.argsort(-(query_signs @ signs.T), axis=1, kind="stable")
    # What is among the candidates and exactly among the nearest is among the nearest of the candidates.
    found = [[np.isin(exact[i], nearest[i, : K * factor]).mean() for i in range(len(queries))] for factor in FACTORS]
    return [round(float(np.mean(shares)), 4) for shares in found]


async def measure() -> Row:
    """The recall of every projection over all passages and over those that none has learnt from."""
    corpus, model = python_corpus(), Embedding(*MODEL)
    passages = _unit(await model.embed_many(corpus.passages))
    queries = _unit(np.stack([await model.embed_query(query) for query in corpus.queries]))
    order = np.random.default_rng(_SEED).permutation(len(passages))
    half = len(order) // 2
    ways = projections(passages[order[:half]])
    unseen = passages[order[half:]]
    rows = [
        {
            "projection": name,
            "all": recall(passages, queries, bits),
            "unseen": recall(unseen, queries, bits),
        }
        for name, bits in ways.items()
    ]
    return {"model": MODEL[1], "dimensions": MODEL[2], "bits": BITS, "k": K, "rescore": FACTORS, "rows": rows}


def _unit(vectors: Floats) -> Floats:
    unit: Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    measured = asyncio.run(measure())
    arguments.output.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    for row in measured["rows"]:
        print(row)


if __name__ == "__main__":
    main()
