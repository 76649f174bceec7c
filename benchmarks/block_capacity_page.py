"""The figures of blocks in docs/scaling.md, made of block_capacity.json."""

import json
import re
from pathlib import Path
from typing import Any, Final

from benchmarks import capacity
from benchmarks.block_capacity import RESULTS, BlockCosts, measured, predicted, with_blocks
from benchmarks.capacity import Load, Prices, duration, plan, size
from benchmarks.capacity_page import PAGE, table

_PART: Final = re.compile(
    r"(<!-- made by `python -m benchmarks.block_capacity --page`: (\w+) -->\n).*?(<!-- to here -->)", re.DOTALL
)

_PLANNED: Final = (1_000_000, 10_000_000, 100_000_000)


def written(page: str) -> str:
    """The page with its figures made anew."""
    found: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))
    parts = {
        "blocks": _costs(measured()),
        "cluster": _searches(found),
        "machine": _machine(found),
        "plans": _plans(),
    }
    return _PART.sub(lambda match: f"{match[1]}{parts[match[2]]}\n{match[3]}", page)


def write(page: Path = PAGE) -> None:
    """Writes the page."""
    page.write_text(written(page.read_text(encoding="utf-8")), encoding="utf-8")


def _costs(costs: BlockCosts) -> str:
    times = {
        "processor time of the cluster": (costs.workers_search_s, costs.workers_row_s),
        "processor time of the server": (costs.server_search_s, costs.server_row_s),
        "processor time of the client": (costs.client_search_s, costs.client_row_s),
    }
    sizes = {
        "a search: bytes up": (costs.search_up_bytes, 0.0),
        "a search: bytes down": (0.0, costs.row_down_bytes),
        "memory of the cluster": (0.0, costs.row_memory_bytes),
        "storage, beside the chunk": (0.0, costs.row_stored_bytes),
    }
    rows = [[f"a search: {name}", duration(fixed), _nanoseconds(each)] for name, (fixed, each) in times.items()]
    rows += [[name, size(fixed), f"{each:,.4g} B"] for name, (fixed, each) in sizes.items()]
    return table(["", "fixed", "for each vector"], rows)


def _plans() -> str:
    """What searches of a whole knowledge base need, once a second."""
    costs = with_blocks(capacity.measured(), measured())
    plans = [plan(costs, Load(chunks=rows, candidates=rows), Prices()) for rows in _PLANNED]
    rows = {
        "memory": [size(one.memory_bytes) for one in plans],
        "storage, SQLite": [size(one.sqlite_bytes) for one in plans],
        "storage, PostgreSQL": [size(one.postgres_bytes) for one in plans],
        "one search, cluster and server": [duration(one.search_server_s) for one in plans],
        "one search, client": [duration(one.search_client_s) for one in plans],
        "one search, answer": [size(one.search_down_bytes) for one in plans],
    }
    return table(["vectors", *[f"{rows:,}" for rows in _PLANNED]], [[name, *found] for name, found in rows.items()])


def _searches(found: dict[str, Any]) -> str:
    costs, rows = measured(), []
    for one in found["searches"]:
        model = predicted(costs, one["rows"])
        rows.append(
            [
                f"{one['rows']:,}",
                *(_compared(model[name], one[name]) for name in ("workers_s", "server_s")),
                duration(one["wall_s"]),
                size(one["memory_bytes"]),
            ]
        )
    headings = ["vectors", "cluster: processors", "server: processors", "elapsed", "memory of the cluster"]
    return table(headings, rows)


def _compared(model: float, real: float) -> str:
    off = f"{real / model - 1:+.1%}"
    return duration(real) if off in ("+0.0%", "-0.0%") else f"{duration(real)} ({off})"


def _machine(found: dict[str, Any]) -> str:
    return (
        f"{found['machine']}, {found['processors']} processors, kernel {found['backend']}, {found['workers']} workers."
    )


def _nanoseconds(seconds: float) -> str:
    return f"{seconds * 1e9:.3g} ns"
