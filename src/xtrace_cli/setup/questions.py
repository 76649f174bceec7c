"""The questions of `xtrace init`. Each has a flag; with `--yes`, the flag or the default is the answer."""

import getpass
import sys
from dataclasses import dataclass

import typer

from xtrace_cli.errors import NotConfirmed, WrongUse
from xtrace_cli.output import is_watched, printable


@dataclass(frozen=True, slots=True)
class Questions:
    """Asks at the terminal, or says which flag is missing."""

    may_ask: bool

    @classmethod
    def unless(cls, yes: bool) -> "Questions":
        """Asks unless `--yes` was given. Raises `WrongUse` when not interactive and without `--yes`."""
        if not yes and not is_watched():
            raise WrongUse("xtrace init cannot ask questions when not interactive: add --yes")
        return cls(not yes)

    def text(self, question: str, flag: str, default: str | None = None) -> str:
        """Returns the answer, by default `default`. Raises `WrongUse` if it is required and cannot be asked for."""
        if not self.may_ask:
            if default is None:
                raise WrongUse(f"{flag} is missing: {question[0].lower()}{question[1:]}")
            return default
        while True:
            answer = _read_line(f"{question}{f' [{default}]' if default else ''}: ")
            if answer or default is not None:
                return answer or default or ""

    def secret(self, question: str, flag: str, *, may_be_empty: bool = False) -> str:
        """Returns an answer that is typed without echo; it is empty only if `may_be_empty`."""
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
        """Returns the flag, else the answer, else the default."""
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
