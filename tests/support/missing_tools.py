"""Checks that need a tool which not every machine has: without it they are skipped, and the end of the run says so."""

from collections.abc import Iterable

import pytest

_PREFIX = "missing tool: "


def skip_without(tool: str, found: object) -> None:
    """Skips the test unless the tool was found. `tool` names it: "valgrind", "a C compiler"."""
    if not found:
        pytest.skip(_PREFIX + tool)


def needs(tool: str, found: object) -> pytest.MarkDecorator:
    """The same as a decorator."""
    return pytest.mark.skipif(not found, reason=_PREFIX + tool)


def missing_tools(skipped: Iterable[pytest.TestReport | pytest.CollectReport]) -> dict[str, int]:
    """The number of skipped tests by the tool that was missing."""
    counts: dict[str, int] = {}
    for report in skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        _, prefix, tool = reason.partition(_PREFIX)
        if prefix:
            counts[tool] = counts.get(tool, 0) + 1
    return counts
