"""Passphrases: the options that name their files, and what they are taken from."""

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
    """The passphrase of a context that exists: as given, else from the system's keyring for this id, else typed.

    Raises as `TypedSecret.get` does, and so do the others here.
    """
    return known_passphrase(file, context_id) or _OLD.get(file, "Passphrase: ")


def known_passphrase(file: Path | None, context_id: str | None) -> str | None:
    """The same unless it must be typed: then None."""
    return _OLD.given(file) or (None if context_id is None else kept_passphrase(context_id))


def new_passphrase(file: Path | None) -> str:
    """The passphrase for a new context; at the terminal it is asked for twice."""
    return _OLD.get_new(file, "Passphrase for the new context: ")


def second_passphrase(file: Path | None, *, exists: bool) -> str:
    """The new passphrase of a command that needs the old one too; one that exists is asked for once."""
    return _NEW.get(file, "New passphrase: ") if exists else _NEW.get_new(file, "New passphrase: ")


def read_passphrase(file: Path) -> str:
    """The passphrase in a file."""
    return _OLD.read(file)
