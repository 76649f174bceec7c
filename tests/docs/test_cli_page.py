"""docs/cli.md says what the code does."""

import re
from pathlib import Path

import pytest
from tools.cli_reference import BEGIN, MADE_WITH, PAGE, commands, written_anew

SOURCES = Path(__file__).parents[2] / "src"


def test_the_reference_is_what_help_prints() -> None:
    page = PAGE.read_text()
    if f"{BEGIN} with {MADE_WITH} " not in page:
        pytest.skip(f"the page was made with another version than {MADE_WITH}, which words the help")
    assert page == written_anew(page), "stale: run scripts/cli-reference"


def test_every_command_is_on_the_page() -> None:
    found = re.findall("^### xtrace (.*)$", PAGE.read_text(), re.MULTILINE)
    assert found == commands()
    assert len(found) > 45


def test_every_variable_is_on_the_page() -> None:
    named: set[str] = set()
    for package in ("xtrace_cli", "xtrace_sdk/integrations"):
        for file in (SOURCES / package).rglob("*.py"):
            named |= set(re.findall(r"XTRACE_[A-Z_]*[A-Z]", file.read_text()))
    assert set(re.findall(r"XTRACE_[A-Z_]*[A-Z]", PAGE.read_text())) >= named
