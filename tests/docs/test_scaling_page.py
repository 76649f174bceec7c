"""docs/scaling.md is what the model says of the costs that were measured."""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from benchmarks import block_capacity, block_capacity_page
from benchmarks.capacity import RESULTS, TOLERANCE, Costs, Load, Prices, measured, plan
from benchmarks.capacity_page import PAGE, written

from docs.examples import ROOT, examples, run

MEASURED: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))


def test_the_page_is_made_of_the_results() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page.count("<!-- made by") == page.count("<!-- to here -->") == 8
    assert page == written(page), "docs/scaling.md is stale: python -m benchmarks.capacity --page"
    assert page == block_capacity_page.written(page), "it is stale: python -m benchmarks.block_capacity --page"


async def test_the_example_works(capsys: pytest.CaptureFixture[str]) -> None:
    for code in examples(PAGE).values():
        await run(code, {})
    processors, price = capsys.readouterr().out.splitlines()
    assert processors.endswith("GB of memory")
    assert price.endswith("for a million searches")


def test_the_model_predicted_what_was_measured() -> None:
    rows = MEASURED["checked"]
    searches = [row for row in rows if row["name"].startswith("search over")]
    assert len({row["name"].rpartition(",")[0] for row in searches}) == 3
    assert {row["name"].rpartition(", ")[2] for row in searches} == {"server", "client", "answer"}
    assert [row["name"] for row in rows if abs(row["predicted"] / row["measured"] - 1) > TOLERANCE] == []


def test_searches_of_ten_million_vectors_in_blocks_cost_what_the_model_predicts() -> None:
    found = json.loads(block_capacity.RESULTS.read_text(encoding="utf-8"))
    costs = block_capacity.measured()
    assert found["workers"] == 4
    largest = found["searches"][-1]
    assert largest["rows"] >= 10_000_000
    model = block_capacity.predicted(costs, largest["rows"])
    assert largest["workers_s"] == pytest.approx(model["workers_s"], rel=block_capacity.TOLERANCE)
    assert largest["memory_bytes"] > largest["rows"] * 1024, "every body is in memory"
    with_blocks = block_capacity.with_blocks(measured(), costs)
    load = Load(chunks=10**6, candidates=10**6)
    assert plan(with_blocks, load, Prices()).search_down_bytes == pytest.approx(1.5e6, rel=0.01)
    assert 1024 < with_blocks.cached_row_bytes < 1200


def test_costs_are_those_of_the_wire_and_of_the_rows() -> None:
    costs = measured()
    assert {field.name for field in fields(Costs)} == set(MEASURED["costs"])
    # A ciphertext of 512 bytes, with an id, a nonce and the frame; in memory with a key and a nonce.
    assert 512 < costs.row_down_bytes < 512 + 48
    assert 512 < costs.cached_row_bytes < 512 + 200
    for database in ("sqlite", "postgres"):
        assert 512 < getattr(costs, f"{database}_chunk_bytes") < 4000
        assert 0.7 < getattr(costs, f"{database}_content_factor") < 1.5


def test_a_plan_adds_up() -> None:
    costs, prices = measured(), Prices()
    load = Load(chunks=1_000_000, candidates=10_000, searches_per_s=10)
    one = plan(costs, load, prices)
    twice = plan(costs, replace(load, searches_per_s=20), prices)
    assert twice.server_processors == pytest.approx(2 * one.server_processors)
    assert twice.network_bytes_per_s == pytest.approx(2 * one.network_bytes_per_s)
    # A month's memory and storage are shared by twice as many searches.
    assert one.money_per_million / 2 < twice.money_per_million < one.money_per_million
    assert one.network_bytes_per_s == pytest.approx(10 * (one.search_down_bytes + costs.search_up_bytes))
    with_more = plan(costs, replace(load, servers=3), prices)
    assert with_more.memory_bytes == pytest.approx(3 * one.memory_bytes)
    free = plan(costs, load, Prices(processor_hour=0, memory_gb_month=0, storage_gb_month=0, network_gb=0))
    assert free.money_per_million == 0


def test_the_command_prints_a_plan() -> None:
    page = Path(ROOT / "docs" / "scaling.md").read_text()
    options = page.partition("python -m benchmarks.capacity --chunks ")[2].partition("\n")[0].split()
    known = {f"--{field.name.replace('_', '-')}" for kind in (Load, Prices) for field in fields(kind)}
    assert {one for one in options if one.startswith("--")} <= known
