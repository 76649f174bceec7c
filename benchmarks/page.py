"""`python -m benchmarks.page`: docs/performance.md and its plot from the JSON of `benchmarks.end_to_end`,
`benchmarks.compare`, `benchmarks.constant_time` and `benchmarks.authentication`.
"""

import json
from pathlib import Path
from typing import Any

from benchmarks import authentication, authentication_page, compare, constant_time, end_to_end
from benchmarks.end_to_end_page import plot, section, time_text

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
PLOT = PAGE.with_suffix(".svg")

TO_REACH = {
    ("paillier_lookup: encrypt a vector", "ifma"): 20e-6,
    ("paillier_lookup: read a distance", "ifma"): 12e-6,
    ("kernel: shared exponent of 256 bits, read", "ifma"): 45e-6,
    ("paillier: encrypt a vector", "ifma"): 0.35e-3,
    ("paillier: read a distance", "ifma"): 0.2e-3,
    ("paillier_lookup: multiply a row", "ifma"): 0.6e-6,
    ("paillier_lookup: multiply a row", "avx2"): 2e-6,
    ("paillier_lookup: load a context", "ifma"): 20e-3,
    ("paillier_lookup: create a context", "ifma"): 0.3,
}
"""Figures set for key_len 1024, 512 dimensions and one thread."""


_HEAD = """\
# Performance

Made by `python -m benchmarks.page` from the results of the benchmarks named below; do not edit.

`xtrace version --verbose` shows which backend is used on a machine, and why. `XTRACE_ARITHMETIC` selects a backend, and
`XTRACE_THREADS` sets the number of threads for a batch. `XTRACE_CONSTANT_TIME=1` hides secret exponents from the
processor's caches ([Timing and caches](security.md#timing-and-caches)).
"""

_READING = """\
## Backends

Made by `python -m benchmarks.compare`.

Times are for one item of a batch: medians, with the lowest and the highest in brackets. All candidates take turns in
each round. With one thread the time is the thread's processor time; with two it is wall-clock time, including other
work on the machine. *Bound* is the minimum time of a kernel's multiply instructions, as a fraction of the lowest time:
one `vpmadd52` for eight rows per cycle with AVX-512 IFMA, two `vpmuludq` for four rows per cycle with AVX2. *Gain* is
the speed-up of two threads over one. Creating and loading exclude key derivation.

The rows for AVX2 predate its kernels on doubles. In turns with the old kernels, on a busy machine, the new ones needed
0.62 of the time to multiply a row and 0.77 of the time to read a distance. On a processor of the Zen 3 generation, one
thread, the best of several runs with nothing else running: 32 µs to encrypt a vector, 14 µs to read a distance, and
1.2 µs to multiply a row (targets: 32, 16 and 1.5).
"""


_CONSTANT_TIME = """\
## Constant time

Made by `python -m benchmarks.constant_time`: the cost of [constant time](security.md#timing-and-caches) for one item of
a batch on one thread. Both modes take turns in each round. The first two columns are medians over the rounds; the third
is the median of the rounds' ratios, with the lowest and the highest in brackets.
"""


def page(results: dict[str, Any], whole: dict[str, Any], hidden: dict[str, Any], authenticated: dict[str, Any]) -> str:
    """The page: `whole` is what was measured end to end, `hidden` with and without constant time, `authenticated` with
    and without authentication."""
    tasks = list(dict.fromkeys(row["task"] for row in results["rows"]))
    measured = (
        f"{results['machine']}, {results['processors']} processors at {results['hertz'] / 1e9:.2f} GHz, "
        f"phe {results['phe']}. key_len {results['key_len']}, {results['dimensions']} dimensions, "
        f"{results['rounds']} rounds."
    )
    lines = [_HEAD, *section(whole), _READING, measured, ""]
    for task in tasks:
        lines += [
            f"### {task[0].upper()}{task[1:]}",
            "",
            "| | batch | median | gain | bound | target |",
            "|---|---:|---:|---:|---:|---:|",
        ]
        medians = {row["who"]: row["median"] for row in results["rows"] if row["task"] == task}
        lines += [_line(row, medians) for row in results["rows"] if row["task"] == task]
        lines.append("")
    lines += authentication_page.section(authenticated)
    lines += constant_time_section(hidden)
    return "\n".join(lines).rstrip() + "\n"


def constant_time_section(results: dict[str, Any]) -> list[str]:
    """With and without constant time."""
    measured = (
        f"{results['machine']}. key_len {results['key_len']}, {results['dimensions']} dimensions, "
        f"{results['rounds']} rounds."
    )
    head = ["| | | by default | in constant time | times as long |", "|---|---|---:|---:|---:|"]
    return [_CONSTANT_TIME, measured, "", *head, *[_constant_time_line(row) for row in results["rows"]]]


def _constant_time_line(row: dict[str, Any]) -> str:
    quotient = f"{row['quotient']:.2f} ({row['lowest']:.2f} to {row['highest']:.2f})"
    times = f"{time_text(row['default'])} | {time_text(row['constant_time'])}"
    return f"| {row['task']} | {row['who']} | {times} | {quotient} |"


def _line(row: dict[str, Any], medians: dict[str, float]) -> str:
    backend, several, _ = row["who"].partition(",")
    gain = f"{medians[backend] / row['median']:.2f}" if several else ""
    bound = f"{row['bound'] / row['lowest']:.2f}" if "bound" in row else ""
    limit = TO_REACH.get((row["task"], row["who"]))
    median = f"{time_text(row['median'])} ({time_text(row['lowest'])} to {time_text(row['highest'])})"
    return f"| {row['who']} | {row['items']:,} | {median} | {gain} | {bound} | {time_text(limit) if limit else ''} |"


def main() -> None:
    """Writes the page and the plot."""
    of_backends, whole, hidden, authenticated = (
        json.loads(module.RESULTS.read_text(encoding="utf-8"))
        for module in (compare, end_to_end, constant_time, authentication)
    )
    PAGE.write_text(page(of_backends, whole, hidden, authenticated), encoding="utf-8")
    PLOT.write_text(plot(whole), encoding="utf-8")


if __name__ == "__main__":
    main()
