"""docs/schemes.md has what was measured, and what it says about the schemes follows from it."""

import json

from benchmarks.crossings import RESULTS
from benchmarks.crossings_page import PAGE, page

from xtrace_core.schemes.lattice import record_bytes
from xtrace_sdk.x_vec.schemes.registry import SCHEMES

MEASURED = json.loads(RESULTS.read_text(encoding="utf-8"))
TEXT = PAGE.read_text(encoding="utf-8")


def test_the_table_is_made_of_the_results() -> None:
    assert page(TEXT, MEASURED) == TEXT, "docs/schemes.md is stale: python -m benchmarks.crossings_page"


def test_every_scheme_is_compared() -> None:
    heads = [line for line in TEXT.splitlines() if line.startswith("| | ")]
    assert all(f"`{scheme}`" in heads[0] for scheme in SCHEMES)


def test_lattice_takes_fewer_bytes_and_less_time_at_every_size() -> None:
    rows = {(row["scheme"], row["count"]): row for row in MEASURED["rows"]}
    sizes = sorted({row["count"] for row in MEASURED["rows"]})
    assert len(rows) == 2 * len(sizes)
    for size in sizes:
        lattice, paillier = rows["lattice", size], rows["paillier_lookup", size]
        for name in ("bytes_up", "bytes_down", "client"):
            assert lattice[name] < paillier[name]


def test_an_answer_has_a_record_and_a_few_bytes_for_each_chunk() -> None:
    (largest,) = [row for row in MEASURED["rows"] if row["scheme"] == "lattice" and row["count"] == 100_000]
    assert record_bytes(512) + 16 < largest["bytes_down"] / largest["count"] < record_bytes(512) + 16 + 16
