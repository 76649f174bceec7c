"""`xtrace xvec upsert` and `xtrace xvec upsert-file`: write records to a knowledge base."""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Final

import msgspec
import typer

from xtrace_cli.errors import WrongUse
from xtrace_cli.options.connection import CredentialsFile
from xtrace_cli.options.passphrase import PassphraseFile
from xtrace_cli.output import Json, note, say, show
from xtrace_cli.workspace import ContextFile, Given, KnowledgeBaseName, Workspace, with_workspace
from xtrace_sdk.errors import InaccessibleFile, InvalidDocument

if TYPE_CHECKING:
    from xtrace_sdk.collection.record import Written

MAX_TEXT_CHARACTERS: Final = 10_000_000
MAX_LINE_BYTES: Final = 64 << 20
"""The maximum size of one record in a file, or of a file that is one list."""
_BATCH: Final = 500
_TIMES: Final = ("created_at", "updated_at")


class Conflict(StrEnum):
    """What to do with a record whose id exists."""

    REPLACE = "replace"
    SKIP = "skip"
    FAIL = "fail"


OnConflict = Annotated[Conflict, typer.Option(help="What to do with a record whose id exists.")]


def upsert(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The record's text; - reads it from standard input.")],
    id_: Annotated[
        str, typer.Option("--id", metavar="ID", help="The record's id; an existing record with this id is replaced.")
    ],
    metadata: Annotated[
        str | None, typer.Option(metavar="JSON", help='The metadata, such as \'{"topic": "home"}\'.')
    ] = None,
    on_conflict: OnConflict = Conflict.REPLACE,
    kb: KnowledgeBaseName = None,
    context: ContextFile = None,
    passphrase_file: PassphraseFile = None,
    credentials: CredentialsFile = None,
    as_json: Json = False,
) -> None:
    """Store one text under an id. The knowledge base must exist."""
    record = {"id": id_, "text": _text(text), "metadata": _object(metadata)}

    async def act(workspace: Workspace) -> "Written":
        return await (await workspace.collection(kb)).upsert([record], on_conflict=on_conflict.value)

    _show([with_workspace(Given(credentials, context, passphrase_file), act)], as_json)


def upsert_file(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Records as JSON: one object per line, or one list; - reads standard input. Each has an id, and "
            "optionally text, metadata and vector.",
        ),
    ],
    on_conflict: OnConflict = Conflict.REPLACE,
    kb: KnowledgeBaseName = None,
    context: ContextFile = None,
    passphrase_file: PassphraseFile = None,
    credentials: CredentialsFile = None,
    as_json: Json = False,
) -> None:
    """Store the records of a file, as `xtrace xvec fetch --json` prints them. The knowledge base must exist.

    A text without a vector is embedded. If the command is interrupted, run it again: records that are already stored
    are simply replaced.
    """

    async def act(workspace: Workspace) -> "list[Written]":
        from xtrace_sdk.progress import progress_bar

        collection, written = await workspace.collection(kb), list["Written"]()
        try:
            with _opened(file) as source, progress_bar("Storing", None) as advance:
                records = _records(source, str(file))
                while batch := list(islice(records, _BATCH)):
                    written.append(await collection.upsert(batch, on_conflict=on_conflict.value))
                    advance(len(batch))
        except BaseException:  # Ctrl-C too
            if written:
                note(f"{sum(one.count for one in written)} records are stored: run the same command again to continue")
            raise
        return written

    _show(with_workspace(Given(credentials, context, passphrase_file), act), as_json)


def _show(written: "list[Written]", as_json: bool) -> None:
    result = {
        "inserted": sum(len(one.inserted) for one in written),
        "replaced": sum(len(one.replaced) for one in written),
        "skipped": sum(len(one.skipped) for one in written),
    }
    show(result, as_json, lambda: say(", ".join(f"{number} {what}" for what, number in result.items())))


def _text(given: str) -> str:
    if given == "-":
        given = sys.stdin.read(MAX_TEXT_CHARACTERS + 1)
    if len(given) > MAX_TEXT_CHARACTERS:
        raise WrongUse(f"the text has more than {MAX_TEXT_CHARACTERS:,} characters: split it")
    return given


def _object(text: str | None) -> dict[str, Any]:
    try:
        return {} if text is None else msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        raise WrongUse('--metadata is not valid, expected a JSON object such as \'{"topic": "home"}\'') from None


def _opened(file: Path) -> AbstractContextManager[BinaryIO]:
    if str(file) == "-":
        return nullcontext(sys.stdin.buffer)
    try:
        return file.open("rb")
    except OSError as error:
        raise InaccessibleFile(f"the records cannot be read from {file}: {error.strerror}") from None


def _records(source: BinaryIO, name: str) -> Iterator[dict[str, Any]]:
    """Yields the records one by one, without the service's timestamps. Raises `InvalidDocument`."""
    first, number = True, 0
    while True:
        line = source.readline(MAX_LINE_BYTES + 1)
        number += 1
        if len(line) > MAX_LINE_BYTES:
            raise InvalidDocument(f"line {number} of {name} has more than {MAX_LINE_BYTES >> 20} MiB: split it")
        if not line:
            return
        if not line.strip():
            continue
        if first and line.lstrip().startswith(b"["):
            whole = line + source.read(MAX_LINE_BYTES + 1)
            if len(whole) > MAX_LINE_BYTES:
                raise InvalidDocument(
                    f"the list in {name} has more than {MAX_LINE_BYTES >> 20} MiB: write one object per line instead"
                )
            for record in _decoded(whole, list[dict[str, Any]], f"{name} is not a list of objects in JSON"):
                yield _without_times(record)
            return
        first = False
        yield _without_times(_decoded(line, dict[str, Any], f"line {number} of {name} is not an object in JSON"))


def _decoded(data: bytes, kind: Any, wrong: str) -> Any:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise InvalidDocument(
            f"{wrong}: expected the keys id, text, metadata and vector; only id is required"
        ) from None


def _without_times(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in _TIMES}
