"""`python -m benchmarks.crossings_page`: the table of docs/schemes.md from the JSON of `benchmarks.crossings`."""

import json
from pathlib import Path
from typing import Any

from benchmarks.crossings import RESULTS
from benchmarks.end_to_end_page import size_text, table, time_text

PAGE = Path(__file__).parents[1] / "docs" / "schemes.md"
_BEGIN, _END = "<!-- benchmarks.crossings -->\n", "<!-- end -->\n"
_LINKS = ((100e6 / 8, 0.0), (20e6 / 8, 0.05))
"""Bytes a second and the seconds of a round trip."""


def page(text: str, results: dict[str, Any]) -> str:
    """Returns the page with the results in their place."""
    before, rest = text.split(_BEGIN)
    _, after = rest.split(_END)
    measured = f"{results['machine']}, backend {results['backend']}, {results['dimensions']} bits."
    head = ["chunks", "scheme", "first down", "up", "down", "client", "loopback", "100 Mbit/s", "mobile"]
    rows = sorted(results["rows"], key=lambda row: row["count"])
    lines = [measured, "", *table(head, [_line(row) for row in rows]), ""]
    return before + _BEGIN + "\n".join(lines) + _END + after


def _line(row: dict[str, Any]) -> list[str]:
    sizes = [size_text(row[name]) for name in ("first_bytes_down", "bytes_up", "bytes_down")]
    moved = row["bytes_up"] + row["bytes_down"]
    linked = [time_text(row["client"] + round_trip + moved / speed) for speed, round_trip in _LINKS]
    return [
        f"{row['count']:,}",
        f"`{row['scheme']}`",
        *sizes,
        time_text(row["client"]),
        time_text(row["loopback"]),
        *linked,
    ]


def main() -> None:
    """Writes the page."""
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(page(text, json.loads(RESULTS.read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main()
