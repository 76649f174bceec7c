"""How much of an exact search over float vectors encrypted search finds, with rescoring and without, on real text.

    python -m benchmarks.recall [--minilm NAME_OR_FOLDER] [--output FILE]

Recall needs no key: the encrypted search finds exactly the nearest vectors by Hamming distance, which a test holds, so
its recall is that of the bits. What the bits cost beside it is measured with keys. Writes benchmarks/recall.json;
`python -m benchmarks.recall_page` makes the page of it.
"""

import argparse
import asyncio
import json
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.corpus import Corpus, python_corpus
from benchmarks.harness import machine
from benchmarks.price import price
from xtrace_sdk.errors import EmbeddingError, TextRefused
from xtrace_sdk.x_vec.chunks.vector_copies import CopyKind, cosine_similarities, vector_copies
from xtrace_sdk.x_vec.chunks.vectors import VectorForm
from xtrace_sdk.x_vec.inference.embedding import Embedding

RESULTS = Path(__file__).parent / "recall.json"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
COUNTS = (3, 10)
FACTORS = (2, 4, 8)
BITS = (None, 512, 768, 1023)
"""How many bits are made of the most dimensions of each model; None for their signs."""
KINDS: tuple[CopyKind, ...] = ("int8", "float32")

Floats = NDArray[np.float32]
Row = dict[str, Any]


def recall(passages: Floats, queries: Floats, bits_wanted: int | None = None) -> list[Row]:
    """The mean recall of each way over the queries: the share of the exact k nearest by cosine that are among its k."""
    dim = passages.shape[1]
    form = VectorForm(dim) if bits_wanted is None else VectorForm(bits_wanted, dim)
    copies = {kind: vector_copies(passages, kind) for kind in KINDS}
    bits, query_bits = form.bits(passages), form.bits(queries)
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
        "machine": machine(),
        "price": price(),
        "models": [],
    }
    print(f"{len(corpus.passages)} passages, {len(corpus.queries)} queries")
    for name, model, lengths in (
        ("wordllama l2_supercat", Embedding("wordllama", "l2_supercat", 64), (None,)),
        ("wordllama l2_supercat", Embedding("wordllama", "l2_supercat", 128), (None,)),
        ("wordllama l2_supercat", Embedding("wordllama", "l2_supercat", 256), BITS),
        ("all-MiniLM-L6-v2", Embedding("sentence_transformer", minilm, 384), BITS),
    ):
        try:
            measured["models"] += await _measured(name, model, lengths, corpus)
        except EmbeddingError as error:
            print(f"{name} is left out: {error}")
    return measured


async def _measured(name: str, model: Embedding, lengths: Sequence[int | None], corpus: Corpus) -> list[Row]:
    step = 64
    parts = [corpus.passages[start : start + step] for start in range(0, len(corpus.passages), step)]
    passages = np.concatenate([vectors for part in parts for vectors in await _embedded(model, part)])
    queries = np.stack(await asyncio.gather(*[model.embed_query(query) for query in corpus.queries]))
    rows = []
    for bits in lengths:
        ways = recall(passages, queries, bits)
        print(f"{name}, {model.dim} dimensions, {bits or 'their signs as'} bits: measured")
        row = {"model": name, "dimensions": model.dim, "bits": bits, "passages": len(passages), "ways": ways}
        rows.append(row)
    return rows


async def _embedded(model: Embedding, texts: list[str]) -> list[Floats]:
    """The vectors of the texts that the model takes: what is too long for it is left out."""
    try:
        return [await model.embed_many(texts)]
    except TextRefused:
        if len(texts) == 1:
            return []
        middle = len(texts) // 2
        return await _embedded(model, texts[:middle]) + await _embedded(model, texts[middle:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minilm", default=MINILM, help="the model's name, or a folder that holds it")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    measured = asyncio.run(measure(arguments.minilm))
    arguments.output.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
