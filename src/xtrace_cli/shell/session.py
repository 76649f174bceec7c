"""Runs the commands of one shell; what a command opened stays open for the next one."""

import shlex
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Final, Self

import typer

from xtrace_cli.output import note
from xtrace_cli.workspace import kept_open

HELP: Final = r"""Type a command as after `xtrace`: search "a question", kb list, or help for all of them.
A line that ends with \ or inside a quotation continues on the next one.

  \json     switch between JSON and plain results
  \timing   switch the times of commands and their stages on or off
  \reload   read the settings, the context and the passphrase again
  \help     this
  \quit     leave, like Ctrl-D. Ctrl-C ends a command.
"""
_REFUSED: Final = {
    "shell": "this is the shell already",
    "serve": "start a server in a terminal of its own",
    "mcp": "start a server in a terminal of its own",
}


class Session:
    """A shell without its terminal. Use it in a `with` block."""

    def __init__(self, profile: str | None = None) -> None:
        self._profile = profile
        self._json = False
        self._timing = False
        self._closing = ExitStack()
        self._forget: Callable[[], None] = lambda: None
        self.is_over = False

    def __enter__(self) -> Self:
        self._forget = self._closing.enter_context(kept_open())
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def run(self, line: str) -> int:
        """Runs a complete line, and returns the exit status of its command. An error ends only that command."""
        try:
            # Without shlex's comments, which would cut the id `notes.md#0`.
            words = [] if line.lstrip().startswith("#") else shlex.split(line)
        except ValueError:
            note("a quote is not closed")
            return 2
        if not words:
            return 0
        if line.lstrip().startswith("\\"):
            return self._set(line.strip())
        if words[0] in ("exit", "quit"):
            self.is_over = True
            return 0
        if words[0] == "xtrace":  # out of habit, or pasted
            words = words[1:]
        if words == ["help"]:
            words = ["--help"]
        return self._command(words)

    def _command(self, words: list[str]) -> int:
        from xtrace_cli.main import run

        if words and words[0] in _REFUSED:
            note(f"{_REFUSED[words[0]]}")
            return 2
        added = [
            option
            for option, is_on in (("--json", self._json), ("--timing", self._timing))
            if is_on and option not in words and option in options_of(words)
        ]
        profile = ["--profile", self._profile] if self._profile else []
        started = time.perf_counter()
        # Before a `--` of the user.
        at = words.index("--") if "--" in words else len(words)
        status = run([*profile, *words[:at], *added, *words[at:]])
        if self._timing:
            note(f"the command took {time.perf_counter() - started:.3f} s")
        return status

    def _set(self, word: str) -> int:
        match word:
            case "\\json":
                self._json = not self._json
                note(f"results are printed {'as JSON' if self._json else 'for people'}")
            case "\\timing":
                self._timing = not self._timing
                note(f"times are {'printed' if self._timing else 'not printed'}")
            case "\\reload":
                self._forget()
                note("the next command opens everything again")
            case "\\help" | "\\?":
                typer.echo(HELP, nl=False)
            case "\\quit" | "\\q":
                self.is_over = True
            case _:
                note("unknown: \\help lists all commands")
                return 2
        return 0


def is_complete(text: str) -> bool:
    """Whether the text is a complete command: it ends neither with a backslash nor inside a quotation."""
    if text.lstrip().startswith(("\\", "#")):
        return True
    if text.rstrip(" ").endswith("\\"):
        return False
    try:
        shlex.split(text)
    except ValueError:
        return False
    return True


def joined(lines: Sequence[str]) -> str:
    """Joins the lines of one command: a backslash at the end of a line continues it on the next."""
    text = "\n".join(lines)
    return text.replace("\\\n", " ")


def options_of(words: Sequence[str]) -> list[str]:
    """Returns the options of the command at the start of the words."""
    command = command_of(words)
    return [name for parameter in command.params for name in parameter.opts] if command is not None else []


def command_of(words: Sequence[str]) -> "typer.core.TyperCommand | typer.core.TyperGroup | None":
    """Returns the command or group at the start of the words; None for an unknown one."""
    from xtrace_cli.main import command

    found = command()
    for word in words:
        commands = getattr(found, "commands", None)
        if commands is None or word.startswith("-"):
            break
        if word not in commands:
            return None
        found = commands[word]
    return found
