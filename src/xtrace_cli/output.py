"""What a command prints, and what it asks.

Results go to standard output, plain for people or as JSON for programs; notes and questions go to standard error, so
that a redirected result holds nothing else. Names and descriptions come from the service and may hold anything:
characters that steer a terminal are replaced in plain output, and JSON escapes them.
"""

import io
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any

import msgspec
import typer

from xtrace_cli.errors import NotConfirmed, WrongUse

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]


def show(result: Any, as_json: bool, plain: Callable[[], None]) -> None:
    """Prints the result: as JSON, or the way that `plain` does it."""
    if as_json:
        # A terminal takes a few characters beyond ASCII for commands, and JSON has an escape for every one.
        text = msgspec.json.format(msgspec.json.encode(result), indent=2).decode()
        every = (sys.stdout.encoding or "").lower().startswith("utf")
        typer.echo(
            "".join(c if c == "\n" or (c.isprintable() and (every or c.isascii())) else _escaped(c) for c in text)
        )
    else:
        plain()


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints aligned columns under headings."""
    lines = [list(headings), *[[printable(str(cell)) for cell in row] for row in rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    for line in lines:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def fields(pairs: Iterable[tuple[str, object]]) -> None:
    """Prints a line for each name and value, the values aligned."""
    shown = [(name, printable(str(value))) for name, value in pairs]
    width = max(len(name) for name, _ in shown)
    for name, value in shown:
        typer.echo(f"{name.ljust(width)}  {value}".rstrip())


def say(text: str) -> None:
    """Prints lines of which parts come from documents or the service."""
    typer.echo("\n".join(printable(line) for line in text.split("\n")))


def write_in_every_encoding() -> None:
    """From now on, what the encoding of the output does not have is replaced by `?` instead of ending the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def note(text: str) -> None:
    """Says something to the person at the terminal, apart from the result."""
    typer.echo(f"xtrace: {printable(text)}", err=True)


def confirm(question: str, yes: bool) -> None:
    """Returns if it shall be done: `--yes` was given, or the person at the terminal said so.

    Raises `NotConfirmed` if they did not, and `WrongUse` when not interactive.
    """
    check_confirmable(yes)
    if yes:
        return
    if not wants(question):
        raise NotConfirmed("not confirmed, so nothing was changed")


def confirm_by_name(consequence: str, name: str, yes: bool) -> None:
    """Returns if `--yes` was given, or the person at the terminal has typed the name of what will be lost.

    Raises as `confirm` does.
    """
    check_confirmable(yes)
    if yes:
        return
    typer.echo(f"{printable(consequence)} Type its name to confirm: ", err=True, nl=False)
    # Compared as it is shown: no one can type a control character.
    if sys.stdin.readline().rstrip("\r\n") != printable(name):
        raise NotConfirmed("not confirmed, so nothing was deleted")


def wants(question: str) -> bool:
    """Asks the person at the terminal, and says whether they answered yes."""
    typer.echo(f"{printable(question)} [y/N] ", err=True, nl=False)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def check_confirmable(yes: bool) -> None:
    """Raises `WrongUse` if `confirm` will: to be asked before work that would be in vain then."""
    if not (yes or is_watched()):
        raise WrongUse("cannot ask for confirmation when not interactive: add --yes")


def is_watched() -> bool:
    """Whether a person can read questions and type answers."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def printable(text: str) -> str:
    """The text on one line, without characters that steer a terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))
