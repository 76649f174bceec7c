"""The part of docs/cli.md that is made from the commands' own `--help`: `scripts/cli-reference` writes it."""

import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import typer
from typer.testing import CliRunner

from xtrace_cli.main import app

PAGE = Path(__file__).parents[1] / "docs" / "cli.md"
MADE_WITH = f"typer {metadata.version('typer')}"
"""What words the help: another version may word it differently."""
BEGIN, END = "<!-- made by scripts/cli-reference", "<!-- to here -->"
_WIDTH = {"COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1"}


def commands() -> list[str]:
    """Every command, as it is typed after `xtrace`."""
    return list(_commands(app, ""))


def _commands(group: typer.Typer, prefix: str) -> Iterator[str]:
    for command in group.registered_commands:
        assert command.callback
        yield prefix + (command.name or command.callback.__name__)
    for subgroup in group.registered_groups:
        assert subgroup.typer_instance
        yield from _commands(subgroup.typer_instance, f"{subgroup.typer_instance.info.name} ")


def reference() -> str:
    """Each command with the text of its `--help`."""
    return "\n".join(f"### xtrace {command}\n\n```text\n{_help(command)}```\n" for command in commands())


def written_anew(page: str) -> str:
    """The page with the reference in its place."""
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN} with {MADE_WITH} from here -->\n\n{reference()}\n{END}{tail}"


def _help(command: str) -> str:
    result = CliRunner().invoke(app, [*command.split(), "--help"], prog_name="xtrace", env=_WIDTH)
    assert result.exit_code == 0, result.output
    return result.stdout


if __name__ == "__main__":
    PAGE.write_text(written_anew(PAGE.read_text()))
    sys.exit(0)
