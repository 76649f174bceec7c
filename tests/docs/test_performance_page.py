"""docs/performance.md is what the benchmarks measured."""

import json

from benchmarks.compare import RESULTS
from benchmarks.page import PAGE, page


def test_the_page_is_made_of_the_results() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(json.loads(RESULTS.read_text(encoding="utf-8"))), (
        "docs/performance.md is stale: python -m benchmarks.page"
    )


def test_every_kernel_and_both_schemes_are_measured_on_each_backend() -> None:
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"]
    by_task: dict[str, set[str]] = {}
    for row in rows:
        by_task.setdefault(row["task"], set()).add(row["who"])
    assert all({"ifma", "avx2", "portable"} <= who for who in by_task.values())
    assert {"phe", "gmpy2 loop"} <= set().union(*by_task.values())
    assert {task.partition(":")[0] for task in by_task} == {"paillier_lookup", "paillier", "kernel"}
