"""Prints results and asks questions.

Results go to standard output, as plain text or JSON; notes and questions go to standard error, so that a redirected
result contains nothing else. Names and descriptions come from the service and may contain anything: plain output
replaces terminal control characters, and JSON escapes them.
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
    """Prints the result: as JSON, or with `plain`."""
    if as_json:
        # Terminals interpret a few characters beyond ASCII as commands; JSON can escape all of them.
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
    """Prints lines that contain parts of documents or answers of the service."""
    typer.echo("\n".join(printable(line) for line in text.split("\n")))


def write_in_every_encoding() -> None:
    """From now on, prints `?` for characters that the output's encoding lacks, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def note(text: str) -> None:
    """Prints a note for the user, separate from the result."""
    typer.echo(f"xtrace: {printable(text)}", err=True)


def confirm(question: str, yes: bool) -> None:
    """Returns if `--yes` was given, or the user agrees at the terminal.

    Raises `NotConfirmed` otherwise, and `WrongUse` when not interactive.
    """
    check_confirmable(yes)
    if yes:
        return
    if not wants(question):
        raise NotConfirmed("not confirmed, so nothing was changed")


def confirm_by_name(consequence: str, name: str, yes: bool) -> None:
    """Returns if `--yes` was given, or the user types the name of what will be lost.

    Raises what `confirm` raises.
    """
    check_confirmable(yes)
    if yes:
        return
    typer.echo(f"{printable(consequence)} Type its name to confirm: ", err=True, nl=False)
    # Compare the printed form: no one can type a control character.
    if sys.stdin.readline().rstrip("\r\n") != printable(name):
        raise NotConfirmed("not confirmed, so nothing was deleted")


def wants(question: str) -> bool:
    """Asks at the terminal, and returns whether the answer is yes."""
    typer.echo(f"{printable(question)} [y/N] ", err=True, nl=False)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def check_confirmable(yes: bool) -> None:
    """Raises `WrongUse` if `confirm` would: call it before work that would otherwise be wasted."""
    if not (yes or is_watched()):
        raise WrongUse("cannot ask for confirmation when not interactive: add --yes")


def is_watched() -> bool:
    """Whether a person can read questions and type answers."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def printable(text: str) -> str:
    """Returns the text on one line, without terminal control characters."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))
