"""What authentication costs, for docs/performance.md, from the JSON of `benchmarks.authentication`."""

from typing import Any

from benchmarks.end_to_end_page import table, time_text

AT_MOST = {512: 0.6e-6, 1280: 6e-6, 4096: 2e-6}
"""Figures set for a compiled backend, by dimensions."""
AT_MOST_PORTABLE = 15e-6

_HEAD = """\
## Authentication of rows

Made by `python -m benchmarks.authentication`. The client authenticates the vector of every row in every answer
([Security](security.md#the-game)): it subtracts the query from the sum, and recomputes the nonce from the resulting
vector. *Without* is the same, including the check of the noise, but with the distance counted directly from the sum.
Both read one block of an answer, of the size that the service sends, one right after the other. *The step* is
subtraction, recomputation and count together; *more* is its extra time over the count alone, as the median of the
differences. Times are processor time of the thread, for one row.
"""


def section(results: dict[str, Any]) -> list[str]:
    """The lines of the page."""
    measured = f"{results['machine']}. `paillier_lookup`, key_len {results['key_len']}, {results['rounds']} rounds."
    head = ["dimensions", "backend", "rows a block", "read a row", "without", "the step", "more", "at most"]
    return [_HEAD, measured, "", *table(head, [_line(row) for row in results["rows"]]), ""]


def _line(row: dict[str, Any]) -> list[str]:
    limit = AT_MOST_PORTABLE if row["backend"] == "portable" else AT_MOST[row["dimensions"]]
    times = [row["read"], row["read_without"], row["step"], row["more"], limit]
    return [_shape(row), row["backend"], f"{row['rows']:,}", *map(time_text, times)]


def _shape(row: dict[str, Any]) -> str:
    return f"{row['dimensions']:,}" + (", base 3" if row["base"] == "base3" else "")
