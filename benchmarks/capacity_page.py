"""The figures in docs/scaling.md, made of capacity.json."""

import json
import re
from pathlib import Path
from typing import Any, Final

from benchmarks.capacity import RESULTS, Costs, Load, Prices, duration, measured, plan, shown, size

PAGE: Final = Path(__file__).parents[1] / "docs" / "scaling.md"
_PART: Final = re.compile(
    r"(<!-- made by `python -m benchmarks.capacity --page`: (\w+) -->\n).*?(<!-- to here -->)", re.DOTALL
)
EXAMPLES: Final = {
    "a team": Load(chunks=100_000, candidates=100_000, searches_per_s=1),
    "many teams": Load(chunks=5_000_000, candidates=20_000, searches_per_s=50, servers=4, cached_share=0.3),
    "10^8, filtered": Load(chunks=10**8, candidates=20_000, searches_per_s=200, servers=12, cached_share=0.05),
    "10^8, unfiltered": Load(chunks=10**8, candidates=10**8, searches_per_s=0.01, cached_share=1),
}


def written(page: str) -> str:
    """The page with its figures made anew."""
    found: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))
    parts = {"costs": _costs(measured()), "machine": _machine(found), "plans": _plans(), "checked": _checked(found)}
    return _PART.sub(lambda match: f"{match[1]}{parts[match[2]]}\n{match[3]}", page)


def write() -> None:
    """Writes the page."""
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def table(headings: list[str], rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(headings)} |", "|---" + "|---:" * (len(headings) - 1) + "|"]
    return "\n".join([*lines, *[f"| {' | '.join(row)} |" for row in rows]])


def _costs(costs: Costs) -> str:
    rows = [
        ["a search: server processor time", duration(costs.server_search_s), duration(costs.server_row_s)],
        ["a search: client processor time", duration(costs.client_search_s), duration(costs.client_row_s)],
        ["a search: bytes up", size(costs.search_up_bytes), "0 B"],
        ["a search: bytes down", size(costs.search_down_bytes), f"{costs.row_down_bytes:.0f} B"],
        ["memory in the cache", "0 B", f"{costs.cached_row_bytes:.0f} B"],
        ["an insertion: server processor time", "", duration(costs.server_insert_s)],
        ["an insertion: client processor time", "", duration(costs.client_insert_s)],
        ["storage in SQLite", "", _stored(costs.sqlite_chunk_bytes, costs.sqlite_content_factor)],
        ["storage in PostgreSQL", "", _stored(costs.postgres_chunk_bytes, costs.postgres_content_factor)],
    ]
    return table(["", "fixed", "for each chunk"], rows)


def _stored(fixed: float, factor: float) -> str:
    return f"{fixed:,.0f} B + {factor:.2f} × its content"


def _machine(found: dict[str, Any]) -> str:
    return f"{found['machine']}, {found['processors']} processors, backend {found['backend']}."


def _plans() -> str:
    plans = {name: dict(shown(plan(measured(), load, Prices()))) for name, load in EXAMPLES.items()}
    rows = [
        ["chunks", *[f"{load.chunks:,}" for load in EXAMPLES.values()]],
        ["candidates of a search", *[f"{load.candidates:,}" for load in EXAMPLES.values()]],
        ["searches a second", *[f"{load.searches_per_s:g}" for load in EXAMPLES.values()]],
        ["servers", *[str(load.servers) for load in EXAMPLES.values()]],
        ["kept in memory", *[f"{load.cached_share:.0%}" for load in EXAMPLES.values()]],
        *[[name, *[one[name] for one in plans.values()]] for name in next(iter(plans.values()))],
    ]
    return table(["", *EXAMPLES], rows)


def _checked(found: dict[str, Any]) -> str:
    rows = [
        [one["name"], *[_figure(one[key], one["unit"]) for key in ("predicted", "measured")], _off(one)]
        for one in found["checked"]
    ]
    return table(["", "predicted", "measured", "off by"], rows)


def _figure(value: float, unit: str) -> str:
    return duration(value) if unit == "s" else size(value)


def _off(one: dict[str, Any]) -> str:
    return f"{one['predicted'] / one['measured'] - 1:+.1%}"
