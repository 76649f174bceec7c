"""Passphrases: the options that name their files, and their other sources."""

from pathlib import Path
from typing import Annotated, Final

import typer

from xtrace_cli.options.system_keyring import kept_passphrase
from xtrace_cli.options.typed_secret import TypedSecret

VARIABLE = "XTRACE_PASSPHRASE"
NEW_VARIABLE = "XTRACE_NEW_PASSPHRASE"
_OLD: Final = TypedSecret("passphrase", VARIABLE, "--passphrase-file", setting="passphrase")
_NEW: Final = TypedSecret("new passphrase", NEW_VARIABLE, "--new-passphrase-file")

PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help=f"A file with the passphrase; by default {VARIABLE}, else you are asked.",
    ),
]

NewPassphraseFile = Annotated[
    Path | None,
    typer.Option(
        "--new-passphrase-file",
        metavar="FILE",
        help=f"A file with the new passphrase; by default {NEW_VARIABLE}, else you are asked.",
    ),
]


def passphrase_of(file: Path | None, context_id: str | None = None) -> str:
    """Returns the passphrase of an existing context: as given, else from the system's keyring for this id, else typed.

    Raises what `TypedSecret.get` raises, as do the other functions here.
    """
    return known_passphrase(file, context_id) or _OLD.get(file, "Passphrase: ")


def known_passphrase(file: Path | None, context_id: str | None) -> str | None:
    """Returns the same, or None if it would have to be typed."""
    return _OLD.given(file) or (None if context_id is None else kept_passphrase(context_id))


def new_passphrase(file: Path | None) -> str:
    """Returns the passphrase for a new context; the terminal asks for it twice."""
    return _OLD.get_new(file, "Passphrase for the new context: ")


def second_passphrase(file: Path | None, *, exists: bool) -> str:
    """Returns the new passphrase for a command that also needs the old one; the terminal asks once if it exists."""
    return _NEW.get(file, "New passphrase: ") if exists else _NEW.get_new(file, "New passphrase: ")


def read_passphrase(file: Path) -> str:
    """Returns the passphrase in a file."""
    return _OLD.read(file)
