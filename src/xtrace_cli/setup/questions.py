"""The questions of `xtrace init`: each has a flag, and with `--yes` each is answered by its flag or its default."""

import getpass
import sys
from dataclasses import dataclass

import typer

from xtrace_cli.errors import NotConfirmed, WrongUse
from xtrace_cli.output import is_watched, printable


@dataclass(frozen=True, slots=True)
class Questions:
    """Asks the person at the terminal, or says which flag is missing."""

    may_ask: bool

    @classmethod
    def unless(cls, yes: bool) -> "Questions":
        """Questions unless `--yes` was given. Raises `WrongUse` when they can be neither asked nor left out."""
        if not yes and not is_watched():
            raise WrongUse("xtrace init cannot ask questions when not interactive: add --yes")
        return cls(not yes)

    def text(self, question: str, flag: str, default: str | None = None) -> str:
        """The answer, by default `default`. Raises `WrongUse` if it is needed and cannot be asked for."""
        if not self.may_ask:
            if default is None:
                raise WrongUse(f"{flag} is missing: {question[0].lower()}{question[1:]}")
            return default
        while True:
            answer = _read_line(f"{question}{f' [{default}]' if default else ''}: ")
            if answer or default is not None:
                return answer or default or ""

    def secret(self, question: str, flag: str, *, may_be_empty: bool = False) -> str:
        """An answer that is not shown while it is typed; empty only if it may be."""
        if not self.may_ask:
            if may_be_empty:
                return ""
            raise WrongUse(f"{flag} is missing: {question[0].lower()}{question[1:]}")
        while True:
            try:
                answer = getpass.getpass(f"{printable(question)}: ", stream=sys.stderr).strip()
            except EOFError:
                raise NotConfirmed("no answer was given, so nothing else was changed") from None
            if answer or may_be_empty:
                return answer

    def wants(self, question: str, given: bool | None, *, default: bool) -> bool:
        """Whether it is wanted: what the flag says, else the answer, else the default."""
        if given is not None or not self.may_ask:
            return default if given is None else given
        answer = _read_line(f"{question} [{'Y/n' if default else 'y/N'}] ").lower()
        return answer in ("y", "yes") if answer else default


def _read_line(prompt: str) -> str:
    typer.echo(printable(prompt), err=True, nl=False)
    line = sys.stdin.readline()
    if not line:
        typer.echo("", err=True)
        raise NotConfirmed("no answer was given, so nothing else was changed")
    return line.strip()
