"""The table of commands in docs/migration.md beside those of the existing command line."""

import re
from typing import Final

from tools.cli_reference import commands

from docs.examples import ROOT
from xtrace_cli.options.settings import VARIABLES
from xtrace_cli.shell.session import command_of

PAGE: Final = ROOT / "docs" / "migration.md"
EXISTING: Final = [
    "init",
    "shell",
    *(f"xvec {name}" for name in ("load", "retrieve", "query", "head", "fetch", "upsert", "upsert-file")),
    "kb create -d -p -a",
    "kb list --all",
    "kb describe",
    "kb delete",
]
"""The commands of the existing command line, with the options whose names programs rely on."""
EXISTING_VARIABLES: Final = {
    "XTRACE_PASS_PHRASE",
    "XTRACE_EXECUTION_CONTEXT_PATH",
    "XTRACE_EMBEDDING_MODEL_PATH",
    "XTRACE_CONTEXT_ID",
}


def rows() -> list[tuple[list[str], list[str]]]:
    """Of each row of the table: the commands there, and those here."""
    _, _, rest = PAGE.read_text().partition("<!-- every command, checked by a test -->\n")
    lines = rest.partition("\n\n")[0].splitlines()[2:]
    cells = [line.split("|") for line in lines]
    return [(re.findall("`([^`]+)`", one[1]), re.findall("`([^`]+)`", one[2])) for one in cells]


def name_of(command: str) -> str:
    return " ".join(word for word in command.split() if not word.startswith("-"))


def test_every_command_is_in_one_row() -> None:
    named = [name_of(command) for _, here in rows() for command in here]
    assert sorted(named) == sorted(commands())


def test_every_existing_command_has_the_same_name_and_options_here() -> None:
    assert [command for there, _ in rows() for command in there] == EXISTING
    for there, here in rows():
        assert set(there) <= set(here)
        for command in here:
            found = command_of(command.split())
            assert found is not None
            options = {name for parameter in found.params for name in parameter.opts}
            assert {word for word in command.split() if word.startswith("-")} <= options, command


def test_several_can_be_described_and_deleted() -> None:
    for command in ("kb describe", "kb delete"):
        found = command_of(command.split())
        assert found is not None
        assert any(parameter.param_type_name == "argument" and parameter.nargs == -1 for parameter in found.params)


def test_the_variables_are_read() -> None:
    known = {variable for names in VARIABLES.values() for variable in names}
    text = PAGE.read_text()
    for variable in EXISTING_VARIABLES:
        assert variable in known
        assert f"`{variable}`" in text
