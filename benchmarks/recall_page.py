"""`python -m benchmarks.recall_page`: docs/recall.md from the JSON of `benchmarks.recall`."""

import json
from pathlib import Path
from typing import Any

from benchmarks import projections
from benchmarks.price import KEY_LEN
from benchmarks.recall import FACTORS, RESULTS

PAGE = Path(__file__).parents[1] / "docs" / "recall.md"

_HEAD = """\
# Recall and rescoring

Made by `python -m benchmarks.recall && python -m benchmarks.recall_page`; do not edit.

The server can compare bits, but not floats. So an embedding is reduced to bits and ranked by Hamming distance, which
costs recall. Two features recover most of it.

**More bits.** `Embedding(provider, model, dim, bits=512)` computes 512 bits from any number of dimensions, by fixed
random projections ([`superbit-1`](formats.md#more-bits-than-dimensions)). Without `bits`, the bits are the signs of the
dimensions.

**Rescoring.** `DataLoader(…, vector_copy="int8")` stores a copy of each float vector inside the chunk's encrypted
content. `Retriever.search(query, k, kb_id, rescore=4)` then fetches the 4·k nearest chunks by Hamming distance,
decrypts them, and returns the k most similar ones by cosine.

Recall@k is the fraction of the true k nearest passages, by exact cosine search over the float vectors, that the search
returns among its k results. It is averaged over all queries. It measures the cost of encryption, not the quality of a
model.
"""

_READING = """\
Each pair of figures is for `int8` / `float32` copies. `int8` stores each element with an error of at most 1/254 of the
vector's largest, in a quarter of the space: use it.

Rescoring lengthens the content of each chunk by 1 byte a dimension (4 with `float32`) plus some 16 bytes, and the
client fetches and decrypts rescore·k chunks instead of k. The server's scan is unchanged. The
[security model](security.md) says what the server sees.

Use all dimensions that the model offers, and `bits=512`. From 513 to 1,291 bits searches cost more time on the client,
which reads each answer modulo both primes. More than 1,291 bits need two ciphertexts at key_len 1024, so a context for
a model with `bits` rejects them.

The figures are for a search over the vectors' bits in memory. The encrypted search finds exactly the same passages; a
test compares the two through a real server.
"""

_TRIED = """\
{bits} bits of {model} ({dimensions} dimensions) can be computed in other ways at the same cost. Recall@{k}, first over
all passages, then over the half that was not used for learning:

| projection | bits alone | rescore=2 | rescore=4 |
|---|---:|---:|---:|
{rows}

Rotations learnt from the data (ITQ: Gong and Lazebnik, CVPR 2011) have somewhat better recall. But they would have to
be learnt before the first record is stored, kept with the keys permanently, and would fit later records less well.
`bits=768` has better recall without these drawbacks. So `superbit-1` is fixed, the same for all users. Measured by
`python -m benchmarks.projections`.
"""


def page(results: dict[str, Any], tried: dict[str, Any]) -> str:
    """The page, from the results of `benchmarks.recall` and of `benchmarks.projections`."""
    measured = (
        f"Measured on {results['passages']:,} passages from Python {results['python']}: its language reference, and "
        "the docstrings\nof its standard library without their first paragraphs. The "
        f"{results['queries']:,} queries are those first paragraphs."
    )
    for model in results["models"]:
        if model["bits"] is None and model["passages"] < results["passages"]:
            measured += f" {model['model']} accepts {model['passages']:,} of the passages; the others are too long."
    counts = sorted({way["k"] for model in results["models"] for way in model["ways"]}, reverse=True)
    tables = [line for k in counts for line in (f"## Recall@{k}", "", *_table(results["models"], k), "")]
    others = ["## What else was tried", "", _TRIED.format(**tried | {"rows": _tried_rows(tried)})]
    return "\n".join([_HEAD, measured, "", *tables, *_price(results), *others, "## Reading it", "", _READING])


def _tried_rows(tried: dict[str, Any]) -> str:
    rows = []
    for row in tried["rows"]:
        pairs = [f"{100 * every:.1f}% / {100 * new:.1f}%" for every, new in zip(row["all"], row["unseen"], strict=True)]
        rows.append(f"| {row['projection']} | {' | '.join(pairs)} |")
    return "\n".join(rows)


def _price(results: dict[str, Any]) -> list[str]:
    rows = [
        f"| {one['bits']:,} | {one['bytes']:,} | {one['read_us']:.1f} | {one['make_us']:.0f} |"
        for one in results["price"]
    ]
    return [
        "## What bits cost",
        "",
        f"{results['machine']}. `paillier_lookup`, key_len {KEY_LEN}.",
        "The bytes are those stored for a vector, and sent for each candidate of a search. Times are medians in",
        "microseconds: to read an answer on the client, and to compute the bits of a 256-dimensional vector.",
        "",
        "| bits | bytes a vector | read an answer | compute the bits |",
        "|---:|---:|---:|---:|",
        *rows,
        "",
    ]


def _table(models: list[dict[str, Any]], k: int) -> list[str]:
    head = ["model", "dimensions", "bits", "bits alone", *(f"rescore={factor}" for factor in FACTORS)]
    lines = [f"| {' | '.join(head)} |", "|---|---:|---|" + "---:|" * (len(head) - 3)]
    for model in models:
        recall = {(way["rescore"], way["vector_copy"]): way["recall"] for way in model["ways"] if way["k"] == k}
        bits = f"{model['dimensions']}, signs" if model["bits"] is None else f"{model['bits']:,}"
        cells = [model["model"], str(model["dimensions"]), bits, f"{recall[None, None]:.1%}"]
        cells += [f"{recall[factor, 'int8']:.1%} / {recall[factor, 'float32']:.1%}" for factor in FACTORS]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    measured, tried = (json.loads(path.read_text(encoding="utf-8")) for path in (RESULTS, projections.RESULTS))
    PAGE.write_text(page(measured, tried), encoding="utf-8")
