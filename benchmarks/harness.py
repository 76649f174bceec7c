"""Measuring: several functions in turn, round after round, so that a machine that drifts treats them alike."""

import platform
import re
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx2


@dataclass(frozen=True, slots=True)
class Measurement:
    """One row of the table; times in milliseconds for each item."""

    name: str
    median_ms: float
    lowest_ms: float
    highest_ms: float
    rounds: int
    limit: str = ""
    """What the row is compared with, and how it stands to it."""


def measure(functions: Mapping[str, Callable[[], object]], items: int = 1, rounds: int = 7) -> dict[str, Measurement]:
    """Runs each function once unmeasured, then all of them in turn for so many rounds; times are for one item."""
    for function in functions.values():
        function()
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            started = time.perf_counter()
            function()
            times[name].append((time.perf_counter() - started) * 1000 / items)
    return {name: Measurement(name, statistics.median(own), min(own), max(own), rounds) for name, own in times.items()}


async def in_turn(rounds: int, *calls: Callable[[], Awaitable[Any]]) -> list[list[float]]:
    """Milliseconds of each call, round after round, after one that is not measured."""
    times: list[list[float]] = [[] for _ in calls]
    for number in range(rounds + 1):
        for call, own in zip(calls, times, strict=True):
            started = time.perf_counter()
            await call()
            if number:
                own.append((time.perf_counter() - started) * 1000)
    return times


def row(name: str, times: list[float], limit: str = "") -> Measurement:
    """The row of these times in milliseconds."""
    return Measurement(name, statistics.median(times), min(times), max(times), len(times), limit)


def machine() -> str:
    """The processor, the system and the versions that a figure depends on."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("gmpy2", "numpy", "cryptography"))
    return f"{_processor()}, {platform.system()}, Python {platform.python_version()}, {versions}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


class Counted(httpx2.AsyncHTTPTransport):
    """The network, which counts the bytes of bodies."""

    def __init__(self) -> None:
        super().__init__()
        self.up = self.down = 0

    @property
    def bytes(self) -> int:
        """Those of both directions."""
        return self.up + self.down

    def begin_again(self) -> None:
        """Counts from zero."""
        self.up = self.down = 0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        sent = await request.aread()
        self.up += len(sent)
        answer = await super().handle_async_request(request)
        content = b"".join([part async for part in answer.aiter_raw()])
        await answer.aclose()
        self.down += len(content)
        return httpx2.Response(answer.status_code, headers=answer.headers, content=content)


def resident(pid: int | str = "self") -> tuple[int, int]:
    """The memory of a process in bytes, now and at most since `forget_peak`; zero where there is no /proc."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0, 0
    now, most = (int(re.findall(rf"{name}:\s+(\d+) kB", status)[0]) * 1024 for name in ("VmRSS", "VmHWM"))
    return now, most


def forget_peak(pid: int | str = "self") -> None:
    """Lets the most memory of a process begin anew (proc(5), `clear_refs`)."""
    with suppress(OSError):
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def table(rows: list[Measurement]) -> str:
    """The rows as a Markdown table."""
    lines = ["| | median | lowest | highest | target |", "|---|---:|---:|---:|---|"]
    for row in rows:
        figures = " | ".join(_time(value) for value in (row.median_ms, row.lowest_ms, row.highest_ms))
        lines.append(f"| {row.name} | {figures} | {row.limit} |")
    return "\n".join(lines)


def _time(milliseconds: float) -> str:
    if milliseconds < 0.1:
        return f"{milliseconds * 1000:.2f} µs"
    return f"{milliseconds:.3f} ms" if milliseconds < 10 else f"{milliseconds:.0f} ms"
