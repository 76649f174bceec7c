"""Passphrases: from a file, the environment or the terminal. Never from the command line, which others can read."""

import getpass
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from xtrace_cli.errors import WrongUse
from xtrace_cli.output import is_watched
from xtrace_sdk.errors import InaccessibleFile, InvalidArgument

VARIABLE = "XTRACE_PASSPHRASE"
NEW_VARIABLE = "XTRACE_NEW_PASSPHRASE"

PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help=f"A file that holds the passphrase. Without it {VARIABLE} is used; without both you are asked.",
    ),
]

NewPassphraseFile = Annotated[
    Path | None,
    typer.Option(
        "--new-passphrase-file",
        metavar="FILE",
        help=f"A file that holds the new passphrase. Without it {NEW_VARIABLE} is used; without both you are asked.",
    ),
]


def passphrase_of(file: Path | None) -> str:
    """The passphrase of a context that exists: from the file, else the environment, else the terminal.

    Raises `InaccessibleFile`, `InvalidArgument`, and `WrongUse` if it is nowhere and nobody is there to ask.
    """
    return _given(file) or _ask("Passphrase: ")


def new_passphrase(file: Path | None) -> str:
    """The passphrase for a new context; at the terminal it is asked for twice. Raises as `passphrase_of` does."""
    return _given(file) or _ask_twice("Passphrase for the new context: ")


def second_passphrase(file: Path | None, *, exists: bool) -> str:
    """The new passphrase of a command that needs the old one too; one that exists is asked for once.

    From its own file or `XTRACE_NEW_PASSPHRASE`. Raises as `passphrase_of` does.
    """
    given = _given(file, NEW_VARIABLE)
    if given is not None:
        return given
    needed = f"a new passphrase is needed: give --new-passphrase-file, or set {NEW_VARIABLE}"
    return _ask("New passphrase: ", needed) if exists else _ask_twice("New passphrase: ", needed)


def read_passphrase(file: Path) -> str:
    """The text of the file without the end of its line. Raises `InaccessibleFile` and `InvalidArgument`."""
    try:
        text = file.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise InaccessibleFile(f"the passphrase cannot be read from {file}: {error.strerror}") from None
    except UnicodeDecodeError:  # its attributes hold the content
        raise InvalidArgument(f"the passphrase in {file} is no UTF-8 text") from None
    if not text:
        raise InvalidArgument(f"the passphrase in {file} is empty")
    return text


def _given(file: Path | None, variable: str = VARIABLE) -> str | None:
    return read_passphrase(file) if file is not None else os.environ.get(variable) or None


_NEEDED = f"a passphrase is needed: give --passphrase-file, or set {VARIABLE}"


def _ask_twice(prompt: str, needed: str = _NEEDED) -> str:
    first = _ask(prompt, needed)
    if _ask("The same again: ", needed) != first:
        raise InvalidArgument("the two passphrases differ")
    return first


def _ask(prompt: str, needed: str = _NEEDED) -> str:
    if not is_watched():
        raise WrongUse(needed)
    with warnings.catch_warnings():
        # A terminal that cannot stop echoing is no place to type a passphrase.
        warnings.simplefilter("error", getpass.GetPassWarning)
        try:
            text = getpass.getpass(prompt, stream=sys.stderr)
        except (EOFError, getpass.GetPassWarning):
            text = ""
    if not text:
        raise InvalidArgument("no passphrase was given")
    return text
