"""docs/performance.md is what the benchmarks measured."""

import json
from typing import Any
from xml.etree import ElementTree

from benchmarks import authentication, compare, constant_time, end_to_end
from benchmarks.end_to_end_page import plot
from benchmarks.page import PAGE, PLOT, page

BACKENDS: dict[str, Any] = json.loads(compare.RESULTS.read_text(encoding="utf-8"))
WHOLE: dict[str, Any] = json.loads(end_to_end.RESULTS.read_text(encoding="utf-8"))
HIDDEN: dict[str, Any] = json.loads(constant_time.RESULTS.read_text(encoding="utf-8"))
AUTHENTICATED: dict[str, Any] = json.loads(authentication.RESULTS.read_text(encoding="utf-8"))


def test_the_page_and_the_plot_are_made_of_the_results() -> None:
    stale = "docs/performance.md is stale: python -m benchmarks.page"
    assert PAGE.read_text(encoding="utf-8") == page(BACKENDS, WHOLE, HIDDEN, AUTHENTICATED), stale
    assert PLOT.read_text(encoding="utf-8") == plot(WHOLE), stale
    assert ElementTree.fromstring(plot(WHOLE)).tag.endswith("svg")  # noqa: S314 - our own
    assert f"]({PLOT.name})" in PAGE.read_text(encoding="utf-8")


def test_search_loading_and_rotation_are_measured_end_to_end() -> None:
    assert [row["count"] for row in WHOLE["sizes"]] == [1_000, 10_000, 100_000]
    assert WHOLE["dimensions"] == 512
    assert WHOLE["key_len"] == 1024
    for row in WHOLE["sizes"]:
        # A ciphertext of 512 bytes a row, and at most 48 bytes more.
        assert 512 * row["count"] < row["answer"]["bytes_down"] < (512 + 48) * row["count"] + 1000
        assert {"load", "answer", "search", "search_at_once", "floor"} < row.keys()
    assert {one["scheme"] for one in WHOLE["rotations"]} == {"paillier_lookup", "paillier"}


def test_every_kernel_and_both_schemes_are_measured_on_each_backend() -> None:
    rows = BACKENDS["rows"]
    by_task: dict[str, set[str]] = {}
    for row in rows:
        by_task.setdefault(row["task"], set()).add(row["who"])
    assert all({"ifma", "avx2", "portable"} <= who for who in by_task.values())
    assert {"phe", "gmpy2 loop"} <= set().union(*by_task.values())
    assert {task.partition(":")[0] for task in by_task} == {"paillier_lookup", "paillier", "kernel"}


def test_reading_and_encrypting_in_constant_time_are_measured_on_each_backend() -> None:
    measured = {(row["task"], row["who"]) for row in HIDDEN["rows"]}
    assert measured == {(task, who) for task in constant_time.TASKS for who in ("ifma", "avx2", "portable")}
    assert {"paillier_lookup: encrypt a vector", "paillier_lookup: read a distance"} <= set(constant_time.TASKS)


def test_reading_is_measured_with_and_without_authentication_on_each_backend() -> None:
    measured = {(row["backend"], row["dimensions"], row["base"]) for row in AUTHENTICATED["rows"]}
    shapes = ((512, "base4"), (1280, "base3"), (4096, "base4"))
    assert measured == {(backend, *shape) for backend in ("ifma", "avx2", "portable") for shape in shapes}
