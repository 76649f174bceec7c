"""How much of an exact search over float vectors encrypted search finds, with rescoring and without, on real text.

    python -m benchmarks.recall [--minilm NAME_OR_FOLDER] [--output FILE]

No key is needed: the encrypted search finds exactly the nearest vectors by Hamming distance, which a test holds, so
its recall is that of the bits. Writes benchmarks/recall.json; `python -m benchmarks.recall_page` makes the page of it.
"""

import argparse
import asyncio
import json
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.corpus import Corpus, python_corpus
from xtrace_sdk.errors import EmbeddingError
from xtrace_sdk.x_vec.chunks.vector_copies import CopyKind, cosine_similarities, vector_copies
from xtrace_sdk.x_vec.chunks.vectors import float_to_bits
from xtrace_sdk.x_vec.inference.embedding import Embedding

RESULTS = Path(__file__).parent / "recall.json"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
COUNTS = (3, 10)
FACTORS = (2, 4, 8)
KINDS: tuple[CopyKind, ...] = ("int8", "float32")

Floats = NDArray[np.float32]
Row = dict[str, Any]


def recall(passages: Floats, queries: Floats) -> list[Row]:
    """The mean recall of each way over the queries: the share of the exact k nearest by cosine that are among its k."""
    copies = {kind: vector_copies(passages, kind) for kind in KINDS}
    bits, query_bits = float_to_bits(passages), float_to_bits(queries)
    hits = dict.fromkeys(_ways(), 0)
    for query, own_bits in zip(queries, query_bits, strict=True):
        exact = _nearest(cosine_similarities(query, passages))
        by_bits = np.argsort(np.count_nonzero(bits != own_bits, axis=1), kind="stable")
        similarities = {kind: cosine_similarities(query, copies[kind]) for kind in KINDS}
        for k, factor, kind in hits:
            found = by_bits[: k * (factor or 1)]
            if kind is not None:
                found = found[_nearest(similarities[kind][found])][:k]
            hits[k, factor, kind] += len(np.intersect1d(found, exact[:k]))
    return [
        {"k": k, "rescore": factor, "vector_copy": kind, "recall": round(found / (k * len(queries)), 4)}
        for (k, factor, kind), found in hits.items()
    ]


def _ways() -> Iterator[tuple[int, int | None, CopyKind | None]]:
    for k in COUNTS:
        yield k, None, None
        for factor in FACTORS:
            for kind in KINDS:
                yield k, factor, kind


def _nearest(similarities: NDArray[np.float64]) -> NDArray[np.intp]:
    return np.argsort(-similarities, kind="stable")


async def measure(minilm: str) -> Row:
    """What there is to know of all models that are there; why one is left out is printed."""
    corpus = python_corpus()
    measured: Row = {
        "python": platform.python_version(),
        "passages": len(corpus.passages),
        "queries": len(corpus.queries),
        "models": [],
    }
    print(f"{len(corpus.passages)} passages, {len(corpus.queries)} queries")
    for name, model in (
        *(("wordllama l2_supercat", Embedding("wordllama", "l2_supercat", dim)) for dim in (64, 128, 256)),
        ("all-MiniLM-L6-v2", Embedding("sentence_transformer", minilm, 384)),
    ):
        try:
            measured["models"].append(await _measured(name, model, corpus))
        except EmbeddingError as error:
            print(f"{name} is left out: {error}")
    return measured


async def _measured(name: str, model: Embedding, corpus: Corpus) -> Row:
    passages, queries = await model.embed_many(corpus.passages), await model.embed_many(corpus.queries)
    ways = recall(passages, queries)
    print(f"{name}, {model.dim} dimensions: measured")
    return {"model": name, "dimensions": model.dim, "ways": ways}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minilm", default=MINILM, help="the model's name, or a folder that holds it")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    measured = asyncio.run(measure(arguments.minilm))
    arguments.output.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
