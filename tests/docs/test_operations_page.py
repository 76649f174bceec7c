"""docs/operations.md lists the settings that there are, with their defaults and what they mean."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from docs.examples import ROOT
from support.service import running_service
from xtrace_server.metrics import CLUSTER, DATABASE_SIZES, Metrics
from xtrace_server.settings import Settings
from xtrace_server.storage import archiving

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
    made.watch_memory({})
    made.watch_database(dict.fromkeys(DATABASE_SIZES, lambda: 0))
    made.watch_cluster(dict.fromkeys(CLUSTER, lambda: 0))
    made.watch_block_files(lambda: 0)
    return {family.name + ("_total" if family.type == "counter" else "") for family in made.registry.collect()}


def test_every_metric_is_on_the_page() -> None:
    assert set(re.findall(r"`(xtrace_\w+)`", PAGE)) == metrics()


def test_the_backup_script_backs_up_checks_and_clears_away(tmp_path: Path) -> None:
    (script,) = re.findall(r"^```sh\n(#!/bin/sh\n# /etc/cron.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    backups, data = tmp_path / "backups", tmp_path / "data"
    backups.mkdir()
    for name, days in (("old.tar", 40), ("recent.tar", 20), (".old.tar.x1y2", 3)):
        (backups / name).touch()
        os.utime(backups / name, (time.time() - days * 86_400,) * 2)
    for place, here in (("/var/lib/xtrace", data), ("/var/backups/xtrace", backups)):
        assert place in script
        script = script.replace(place, str(here))
    with running_service(data):
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(["sh", "-c", script], env={"PATH": path}, capture_output=True, text=True, check=True)
    made, recent = sorted(backups.iterdir())
    assert (recent.name, made.stat().st_mode & 0o777) == ("recent.tar", 0o600)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d{6}Z\.tar", made.name)
    assert archiving.checked(made).rows > 0
    assert done.stderr == ""
