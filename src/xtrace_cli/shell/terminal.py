"""A shell at a terminal: a prompt_toolkit prompt with completion and history."""

import os
import re
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Final

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory

from xtrace_cli.output import note
from xtrace_cli.shell.session import Session, command_of, is_complete, joined

_PROMPT, _FURTHER = "xtrace> ", "   ...> "
_KEY_LIKE: Final = re.compile(r"[A-Za-z0-9_-]{30,}")
"""The length of keys; nothing else that is typed here needs to be that long."""


def converse(session: Session) -> int:
    """Reads and runs commands until the end."""
    note("type a command, \\help for help, Ctrl-D to exit")
    prompt: PromptSession[str] = PromptSession(
        completer=_Words(), history=history_in(_state_folder()), complete_while_typing=False
    )
    while not session.is_over:
        try:
            line = _command(prompt)
        except KeyboardInterrupt:
            continue  # Ctrl-C gives up the line
        except EOFError:
            break
        session.run(line)
    return 0


def _command(prompt: "PromptSession[str]") -> str:
    lines = [prompt.prompt(_PROMPT)]
    while not is_complete("\n".join(lines)):
        lines.append(prompt.prompt(_FURTHER))
    return joined(lines)


def history_in(folder: Path) -> History:
    """Returns a history in a file that only its owner can read, or in memory if that is not possible."""
    file = folder / "history"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(file, os.O_CREAT | os.O_APPEND | os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0), 0o600))
        file.chmod(0o600)
    except OSError:
        return InMemoryHistory()
    return _WithoutSecrets(str(file))


class _WithoutSecrets(FileHistory):
    """Does not store lines that begin with a space or may contain a key."""

    def store_string(self, string: str) -> None:
        if not string.startswith(" ") and not _KEY_LIKE.search(string):
            super().store_string(string)


def _state_folder() -> Path:
    given = Path(os.environ.get("XDG_STATE_HOME") or "")
    return (given if given.is_absolute() else Path.home() / ".local" / "state") / "xtrace"


class _Words(Completer):
    """Completes names of commands, their options, the options' values, and files."""

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        before = document.text_before_cursor
        *words, last = before.split(" ")
        words = [word for word in words if word]
        for candidate in candidates(words, last):
            yield Completion(candidate, start_position=-len(last))
        if "/" in last or last.startswith(".") or _is_path(command_of(words), words):
            yield from PathCompleter(expanduser=True).get_completions(Document(last), complete_event)


def candidates(words: list[str], last: str) -> Iterator[str]:
    """Returns the completions of the last word, given the words before it."""
    if last.startswith("\\") and not words:
        yield from (word for word in ("\\json", "\\timing", "\\reload", "\\help", "\\quit") if word.startswith(last))
        return
    command: Any = command_of(words)
    if command is None:
        return
    choices = _choices(command, words)
    if choices is not None:
        yield from (choice for choice in choices if choice.startswith(last))
        return
    if hasattr(command, "commands"):
        yield from sorted(name for name in command.commands if name.startswith(last))
    if last.startswith("-"):
        options = (name for parameter in command.params for name in parameter.opts)
        yield from sorted(name for name in {*options, "--help"} if name.startswith(last) and name not in words)


def _choices(command: Any, words: list[str]) -> list[str] | None:
    """Returns the values of the option before the last word; None without an option, or if it takes any value."""
    named = next((one for one in command.params if words and words[-1] in one.opts), None)
    # In every version of typer, the default's class lists the values.
    default = getattr(named, "default", None)
    return [str(choice.value) for choice in type(default)] if isinstance(default, Enum) else None


def _is_path(command: Any, words: list[str]) -> bool:
    parameters = [] if command is None else command.params
    named = next((one for one in parameters if words and words[-1] in one.opts), None)
    return named is not None and str(getattr(named, "metavar", "")) in ("FILE", "PATH", "FOLDER")
