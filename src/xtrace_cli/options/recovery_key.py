"""Recovery keys: prints their words once, and reads them from a file, the environment or the terminal."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from xtrace_cli.options.typed_secret import TypedSecret
from xtrace_cli.output import note

if TYPE_CHECKING:
    from xtrace_sdk.x_vec.keys.recovery import RecoveryKey

VARIABLE: Final = "XTRACE_RECOVERY_KEY"
_WORDS: Final = TypedSecret("recovery key", VARIABLE, "--recovery-key-file")
_COLUMNS: Final = 4

RecoveryKeyFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help=f"A file with the words of the recovery key; by default {VARIABLE}, else you are asked.",
    ),
]


def recovery_key_of(file: Path | None) -> "RecoveryKey":
    """Returns the recovery key of an existing context. Raises what `TypedSecret.get` raises, also for wrong words."""
    from xtrace_sdk.x_vec.keys.recovery import RecoveryKey

    return RecoveryKey(_WORDS.get(file, "Recovery key, its words on one line: "))


def tested(path: Path, key: "RecoveryKey") -> "RecoveryKey":
    """Returns the new recovery key of a saved context, after testing that its words open it."""
    from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext

    ExecutionContext.load_from_disk(path=path, recovery_key=key.words())
    return key


def print_words(path: Path, key: "RecoveryKey") -> None:
    """Prints the words, numbered, to write down."""
    words = [f"{number:2} {word:8}" for number, word in enumerate(key.words().split(), start=1)]
    for start in range(0, len(words), _COLUMNS):
        typer.echo("  ".join(words[start : start + _COLUMNS]).rstrip())
    note(
        "these words will not be shown again: write them down, keep them apart from the context, and test them with: "
        f"xtrace context recover {path} --check"
    )
