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


def test_lattice_takes_less_than_paillier_at_every_size() -> None:
    rows = {(row["scheme"], row["count"]): row for row in MEASURED["rows"]}
    sizes = [count for scheme, count in rows if scheme == "paillier_lookup"]
    for size in sizes:
        lattice, paillier = rows["lattice", size], rows["paillier_lookup", size]
        assert lattice["client"] < paillier["client"]
        assert lattice["loopback"] < paillier["loopback"]
        assert lattice["bytes_up"] + lattice["bytes_down"] < paillier["bytes_up"] + paillier["bytes_down"]


def test_an_answer_by_records_has_a_record_and_a_few_bytes_for_each_chunk() -> None:
    (row,) = [row for row in MEASURED["rows"] if row["scheme"] == "lattice" and row["count"] == 10_000]
    assert record_bytes(512) + 16 < row["bytes_down"] / row["count"] < record_bytes(512) + 16 + 16


def test_an_answer_by_blocks_has_a_byte_and_a_half_for_each_chunk() -> None:
    (row,) = [row for row in MEASURED["rows"] if row["scheme"] == "lattice" and row["count"] == 1_000_000]
    assert 1.5 < row["bytes_down"] / row["count"] < 1.8
    assert row["bytes_up"] + row["bytes_down"] < 2.8e6
