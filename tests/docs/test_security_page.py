"""The tables in docs/security.md have what the hostile server of the tests does, and what the tests find."""

import re

import pytest

import contract.test_filters_bind
import contract.test_hostile_answers
import contract.test_hostile_collection
import contract.test_hostile_search
import contract.test_local_index
import contract.test_searching_blocks  # noqa: F401
import game.test_end_to_end
import game.test_moved_rows
import game.test_other_clients
import game.test_other_rows
import game.test_withheld_rows  # noqa: F401 - they fill the tables
from docs.examples import ROOT, examples, run
from game.arena import LINES
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
        assert re.fullmatch(r"not detected: \S.{15,}", ROWS[does]), does


GAME = PAGE.partition("\n## The game\n")[2].partition("\n## ")[0]
GAME_HEAD = "| the server knows | it does | searches | the client | it learns |\n|---|---|---|---|---|\n"


def test_every_line_of_the_game_is_measured_and_every_game_a_line() -> None:
    found = []
    for part in GAME.split("\n### ")[1:]:
        heading, _, text = part.partition("\n")
        table = text.partition(GAME_HEAD)[2].partition("\n\n")[0]
        found += [(heading, *row.strip("| ").split(" | ")) for row in table.split("\n")]
    assert sorted(found) == sorted((*line, learns) for line, learns in LINES.items())


async def test_the_call_that_turns_constant_time_on_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arithmetic, "constant_time", False)
    await run(examples(ROOT / "docs" / "security.md")["constant time"], {})
    assert ", constant time: " in describe()
