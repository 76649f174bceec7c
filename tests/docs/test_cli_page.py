"""docs/cli.md says what the code does."""

import re
from pathlib import Path

import pytest

from cli_reference import BEGIN, MADE_WITH, PAGE, commands, written_anew
from xtrace_server.settings import Settings

SOURCES = Path(__file__).parents[2] / "src"


def test_the_reference_is_what_help_prints() -> None:
    page = PAGE.read_text()
    if f"{BEGIN} with {MADE_WITH} " not in page:
        pytest.skip(f"the page was made with another version than {MADE_WITH}, which words the help")
    assert page == written_anew(page), "stale: run scripts/cli-reference"


def test_every_command_is_on_the_page() -> None:
    found = re.findall("^### xtrace (.*)$", PAGE.read_text(), re.MULTILINE)
    assert found == commands()
    assert len(found) == 20


def test_every_variable_is_on_the_page() -> None:
    named = {f"XTRACE_{name.upper()}" for name in Settings.model_fields}
    for package in ("xtrace_cli", "xtrace_sdk/integrations"):
        for file in (SOURCES / package).rglob("*.py"):
            named |= set(re.findall(r"XTRACE_[A-Z_]*[A-Z]", file.read_text()))
    assert set(re.findall(r"XTRACE_[A-Z_]*[A-Z]", PAGE.read_text())) >= named


def test_the_defaults_of_a_server_are_those_of_the_page() -> None:
    page = PAGE.read_text()
    for name, field in Settings.model_fields.items():
        if isinstance(field.default, int | str | Path):
            assert re.search(rf"^\| `XTRACE_{name.upper()}` \| `{field.default}` \|", page, re.MULTILINE), name
