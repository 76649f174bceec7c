"""The end-to-end part of docs/performance.md, and its plot, from the JSON of `benchmarks.end_to_end`."""

from collections.abc import Callable, Iterator, Sequence
from math import log10
from statistics import median
from typing import Any

SEARCH_TO_REACH = {1_000: 0.04, 10_000: 0.2, 100_000: 1.5}
LOAD_TO_REACH = 2_500
CLIENT_TO_REACH = {100_000: 150e6}
"""Figures set for `paillier_lookup`, key_len 1024, 512 dimensions, IFMA, two cores shared by client and server."""

_HEAD = """\
## End to end

Made by `python -m benchmarks.end_to_end`. Client and server are separate processes on one machine, communicate over
loopback, and share its processors. A chunk has 0.8 KB of text. Search times are medians, with the lowest and the
highest in brackets. *First byte* is the time from the request to the first bytes of the answer; *cold* is the same
with the rows only on the server's disk. Client memory is the peak above the start of the task (for a load, including
the vectors that it is given); server memory is the total peak.
"""

_FLOOR = """\
For this comparison, all vectors are one AES-GCM blob, which the client downloads for each search, decrypts, and
compares with the query. That is faster, and is the better choice if every client may have the whole collection and it
rarely changes. The extra cost of encrypted search lets the service add, change, filter and count single rows.

![Seconds that a search takes, by the number of chunks](performance.svg)
"""


def section(results: dict[str, Any]) -> list[str]:
    """The lines of the page."""
    sizes, at_once = results["sizes"], results["at_once"]
    measured = (
        f"{results['machine']}, {results['processors']} processors, backend {results['backend']}. `paillier_lookup`, "
        f"key_len {results['key_len']}, {results['dimensions']} dimensions."
    )
    searching = table(["chunks", "search", "target", f"{at_once} at once, all"], [_searched(row) for row in sizes])
    answers = table(["chunks", "first byte", "cold", "bytes up", "bytes down"], [_answered(row) for row in sizes])
    memory = table(
        ["chunks", "client, search", "target", "server, search", f"client, {at_once}", f"server, {at_once}"],
        [_held(row) for row in sizes],
    )
    writing = table(["", "chunks", "a second", "target", "client", "server"], list(_written(results)))
    floor = table(
        ["chunks", "download and compare", "bytes down", "encrypted search"], [_compared(row) for row in sizes]
    )
    parts = (("Searching", searching), ("The answer", answers), ("Memory", memory), ("Writing", writing))
    lines = [_HEAD, measured, ""]
    for title, rows in (*parts, ("The floor: download and compare", floor)):
        lines += [f"### {title}", "", *rows, ""]
    return [*lines, _FLOOR]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    return [
        f"| {' | '.join(head)} |",
        "|---" + "|---:" * (len(head) - 1) + "|",
        *[f"| {' | '.join(row)} |" for row in rows],
    ]


def _searched(row: dict[str, Any]) -> list[str]:
    limit = SEARCH_TO_REACH.get(row["count"])
    goal = time_text(limit) if limit else ""
    return [f"{row['count']:,}", _spread(row["search"]["seconds"]), goal, time_text(row["search_at_once"]["seconds"])]


def _answered(row: dict[str, Any]) -> list[str]:
    answer = row["answer"]
    times = [time_text(answer[name]) for name in ("first_byte", "cold_first_byte")]
    return [f"{row['count']:,}", *times, size_text(answer["bytes_up"]), size_text(answer["bytes_down"])]


def _held(row: dict[str, Any]) -> list[str]:
    limit = CLIENT_TO_REACH.get(row["count"])
    one, several = row["search"], row["search_at_once"]
    held = [size_text(task[side]) for task in (one, several) for side in ("memory", "server_memory")]
    return [f"{row['count']:,}", held[0], size_text(limit) if limit else "", *held[1:]]


def _written(results: dict[str, Any]) -> Iterator[list[str]]:
    done = [("load ready vectors and texts", row["count"], LOAD_TO_REACH, row["load"]) for row in results["sizes"]]
    done.append(("insert encrypted chunks", results["insertion"]["count"], 0, results["insertion"]))
    done += [(f"rotate, `{one['scheme']}`", one["chunks"], 0, one) for one in results["rotations"]]
    for name, count, goal, task in done:
        sizes = [size_text(task[side]) for side in ("memory", "server_memory")]
        yield [name, f"{count:,}", f"{count / task['seconds']:,.0f}", f"{goal:,}" if goal else "", *sizes]


def _compared(row: dict[str, Any]) -> list[str]:
    floor = row["floor"]
    ratio = median(row["search"]["seconds"]) / median(floor["seconds"])
    return [
        f"{row['count']:,}",
        _spread(floor["seconds"]),
        size_text(floor["bytes_down"]),
        f"{ratio:.1f} times as long",
    ]


def _spread(seconds: Sequence[float]) -> str:
    return f"{time_text(median(seconds))} ({time_text(min(seconds))} to {time_text(max(seconds))})"


def time_text(seconds: float) -> str:
    """A time with three figures and its unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if abs(seconds) >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def size_text(size: float) -> str:
    """A number of bytes in decimal units."""
    for unit, step in (("MB", 1e6), ("KB", 1e3)):
        if size >= step:
            return f"{size / step:,.3g} {unit}" if size < 1000 * step else f"{size / step:,.0f} {unit}"
    return f"{size:.0f} B"


# The plot: seconds by chunks, both axes logarithmic

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP, _RIGHT = 640, 380, 70, 50, 20, 190


def plot(results: dict[str, Any]) -> str:
    """An SVG of the search's time by the number of chunks, with the floor and the targets."""
    rows = results["sizes"]
    searched = [(row["count"], median(row["search"]["seconds"])) for row in rows]
    goals = [(count, SEARCH_TO_REACH[count]) for count, _ in searched if count in SEARCH_TO_REACH]
    series = [
        ("encrypted search", "#1f77b4", "", searched),
        ("targets", "#888888", "6 4", goals),
        ("first byte", "#2ca02c", "", [(row["count"], row["answer"]["first_byte"]) for row in rows]),
        ("download and compare", "#d62728", "", [(row["count"], median(row["floor"]["seconds"])) for row in rows]),
    ]
    counts = [x for *_, points in series for x, _ in points]
    seconds = [y for *_, points in series for _, y in points]
    x = _scale(min(counts), max(counts), _LEFT, _WIDTH - _RIGHT)
    y = _scale(min(seconds), max(seconds), _HEIGHT - _BOTTOM, _TOP)
    marks = [_label(x(count), _HEIGHT - _BOTTOM + 20, f"{count:,}", "middle") for count in sorted(set(counts))]
    for power in range(-4, 3):
        if _TOP <= (at := y(10**power)) <= _HEIGHT - _BOTTOM:
            line = f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}" stroke="#dddddd"/>'
            marks += [line, _label(_LEFT - 8, at + 4, time_text(10**power), "end")]
    marks.append(_label((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 8, "chunks", "middle"))
    for i, (name, colour, dashes, points) in enumerate(series):
        path = " ".join(f"{x(count):.1f},{y(value):.1f}" for count, value in points)
        style = f'fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}"'
        at = _TOP + 14 + 22 * i
        marks += [
            f'<polyline points="{path}" {style}/>',
            *[f'<circle cx="{x(count):.1f}" cy="{y(value):.1f}" r="3" fill="{colour}"/>' for count, value in points],
            f'<line x1="{_WIDTH - _RIGHT + 15}" x2="{_WIDTH - _RIGHT + 40}" y1="{at}" y2="{at}" {style}/>',
            _label(_WIDTH - _RIGHT + 46, at + 4, name, "start"),
        ]
    size = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="12"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}>'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *marks, "</svg>"]) + "\n"


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """Where a value between the two stands on a logarithmic axis."""
    width = log10(high / low) or 1.0

    def place(value: float) -> float:
        return start + (end - start) * log10(value / low) / width

    return place


def _label(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'
