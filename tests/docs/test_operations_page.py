"""docs/operations.md lists the settings that there are, with their defaults and what they mean."""

import re
from typing import Any

import pytest

from docs.examples import ROOT
from xtrace_server.metrics import DATABASE_SIZES, Metrics
from xtrace_server.settings import Settings

PAGE = (ROOT / "docs" / "operations.md").read_text()


def shown(name: str, default: Any) -> str:
    """A default as the page writes it."""
    if default is None:
        return "none"
    if isinstance(default, bool):
        return "yes" if default else "no"
    if not isinstance(default, int | float):
        return f"`{default}`"
    if "bytes" in name:
        return f"{default // 2**20} MiB" if default % 2**20 == 0 else f"{default // 1024} KiB"
    return f"{default:,}" if isinstance(default, int) else f"{default:g}"


def row(name: str) -> str:
    """The row of the page's tables about a setting."""
    field = Settings.model_fields[name]
    explanation = " ".join((field.description or "").split())
    return f"| `{name}` | {shown(name, field.default)} | {explanation} |"


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_every_setting_is_on_the_page_as_it_is(name: str) -> None:
    assert row(name) in PAGE


def test_no_other_setting_is_on_the_page() -> None:
    assert set(re.findall(r"^\| `(\w+)` \| .* \| .* \|$", PAGE, re.MULTILINE)) - metrics() == set(Settings.model_fields)


def metrics() -> set[str]:
    """The names of all metrics."""
    made = Metrics()
    made.watch_cache(lambda: 0)
    made.watch_database(dict.fromkeys(DATABASE_SIZES, lambda: 0))
    return {family.name + ("_total" if family.type == "counter" else "") for family in made.registry.collect()}


def test_every_metric_is_on_the_page() -> None:
    assert set(re.findall(r"`(xtrace_\w+)`", PAGE)) == metrics()
