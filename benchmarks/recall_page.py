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

The server can compare bits, not floats: an embedding is reduced to bits and ranked by Hamming distance, which costs
recall. Two things win it back.

**More bits.** `Embedding(provider, model, dim, bits=512)` makes 512 bits of any number of dimensions, by fixed random
projections ([`superbit-1`](formats.md#more-bits-than-dimensions)). Without `bits` the bits are the signs of the
dimensions.

**Rescoring.** With `DataLoader(…, vector_copy="int8")` a copy of
each float vector travels inside the chunk's encrypted content; `Retriever.search(query, k, kb_id, rescore=4)` then
fetches the 4·k nearest by Hamming distance, decrypts them, and returns the k of them that are most similar to the query
by cosine.

Recall@k here is the share of the k passages that an exact search by cosine over the float vectors finds which are among
the k that come back, on average over all queries. It says what encryption costs, not how good a model is.
"""

_READING = """\
Each pair of figures is with `int8` / `float32` copies. `int8` keeps each element to a 254th of the vector's largest and
needs a quarter of the space: it is the one to take.

What it costs: the content of each chunk is longer by 1 byte a dimension (4 with `float32`) and some 16 more, and
rescore·k chunks are fetched and decrypted instead of k; the server's scan is the same. What it shows the server is in
the [security model](security.md).

Take the most dimensions that the model gives, and `bits=512`. Between 513 and 1,291 bits the price is time on the
client: it reads each answer modulo both primes. More than 1,291 bits take two ciphertexts at key_len 1024, so a context
for a model with `bits` refuses them.

The figures are of search over the vectors' bits in memory. The encrypted search finds exactly the same passages; a test
compares the two through a real server.
"""

_TRIED = """\
{bits} bits of {model} ({dimensions} dimensions) can be made in other ways at the same price. Recall@{k}, first over
all passages, then over the half of them from which nothing was learnt:

| projection | bits alone | rescore=2 | rescore=4 |
|---|---:|---:|---:|
{rows}

Rotations that are learnt from the data (ITQ: Gong and Lazebnik, CVPR 2011) find somewhat more. They would have to be
learnt before the first record is stored, kept with the keys for good, and would fit later records less well than the
first; `bits=768` finds more than that without any of it. So `superbit-1` is fixed, the same for everybody. Made by
`python -m benchmarks.projections`.
"""


def page(results: dict[str, Any], tried: dict[str, Any]) -> str:
    """The page, from the results of `benchmarks.recall` and of `benchmarks.projections`."""
    measured = (
        f"Measured on {results['passages']:,} passages that come with Python {results['python']}: its language "
        "reference, and the docstrings\nof its standard library without their first paragraphs. The "
        f"{results['queries']:,} queries are those first paragraphs."
    )
    for model in results["models"]:
        if model["bits"] is None and model["passages"] < results["passages"]:
            measured += (
                f" {model['model']} takes {model['passages']:,} of the passages; the others are too long for it."
            )
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
        f"{results['machine']}. `paillier_lookup`, key_len {KEY_LEN}. Bytes are those that the server stores of",
        "a vector, and those of its answer for each candidate. Times are medians, in microseconds: for the client to",
        "read an answer, and to make the bits of a vector of 256 dimensions in a batch.",
        "",
        "| bits | bytes a vector | read an answer | make the bits |",
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
