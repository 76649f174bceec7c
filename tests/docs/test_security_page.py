"""The table in docs/security.md has what the hostile server of the tests does, and what the tests find."""

import re

import pytest

import contract.test_filters_bind
import contract.test_hostile_answers
import contract.test_hostile_search  # noqa: F401 - they fill the tables
from docs.examples import ROOT, examples, run
from support.hostile_table import NOTICED, UNNOTICED
from xtrace_core.arithmetic import arithmetic, describe

PAGE = (ROOT / "docs" / "security.md").read_text()
TABLE = PAGE.partition("| what a server does | what the client says |\n|---|---|\n")[2].partition("\n\n")[0]
ROWS = dict(re.findall(r"^\| (.*?) \| (.*) \|$", TABLE, re.MULTILINE))


def test_every_lie_is_a_row_and_every_row_a_test() -> None:
    assert set(ROWS) == set(NOTICED) | UNNOTICED
    assert len(ROWS) == TABLE.count("\n") + 1
    assert not set(NOTICED) & UNNOTICED


def test_the_exceptions_are_those_that_are_raised() -> None:
    said = {does: set(re.findall(r"`(\w+)`", says)) for does, says in ROWS.items() if does in NOTICED}
    assert said == NOTICED


def test_what_is_not_noticed_says_so_and_what_to_do() -> None:
    assert UNNOTICED
    for does in UNNOTICED:
        assert re.fullmatch(r"not noticed: \S.{15,}", ROWS[does]), does


async def test_the_call_that_turns_constant_time_on_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arithmetic, "constant_time", False)
    await run(examples(ROOT / "docs" / "security.md")["constant time"], {})
    assert ", constant time: " in describe()
