"""`xtrace export` and `xtrace import`: one knowledge base, from one server to another."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xtrace_cli.commands.kb import KbId
from xtrace_cli.options.server_data import (
    DEFAULT_FOLDER,
    DataFolder,
    archive_faults,
    existing_database,
    server_database,
    server_settings,
)
from xtrace_cli.output import Json, fields, note, show
from xtrace_cli.signals import end_as_ctrl_c_does
from xtrace_sdk.errors import InaccessibleFile, InvalidArgument

if TYPE_CHECKING:
    from xtrace_server.operations.moving import Imported
    from xtrace_server.settings import Settings


def export(
    kb_id: KbId,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The archive to write; it must not exist.")],
    data: DataFolder = DEFAULT_FOLDER,
    as_json: Json = False,
) -> None:
    """Write one knowledge base to an archive, with the contexts that its chunks are stored under.

    Runs on the server's host. The server may go on: the archive is a snapshot of the moment at which the command
    began. It contains ciphertext and metadata as they are stored, and nothing of the organisation or of its keys.
    """
    from xtrace_server.errors import KnowledgeBaseNotFound
    from xtrace_server.storage import exports

    database = existing_database(server_settings(data=data))
    end_as_ctrl_c_does(signal.SIGTERM)
    with archive_faults(file):
        try:
            done = exports.export(database, kb_id, file)
        except KnowledgeBaseNotFound as error:
            raise InvalidArgument(str(error)) from None
        except FileExistsError:
            raise InaccessibleFile(f"{file} exists: name a new file") from None
        except OSError as error:
            raise InaccessibleFile(f"{file} cannot be written: {error.strerror}") from None
    show(done, as_json, lambda: fields([(name, getattr(done, name)) for name in ("created_at", "rows", "bytes")]))


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An archive of `xtrace export`.")],
    org: Annotated[
        str | None,
        typer.Option(metavar="ORG_ID", help="The organisation that gets it; may be left out if there is only one."),
    ] = None,
    undo: Annotated[
        bool, typer.Option("--undo", help="Remove what an import of this archive has stored that was interrupted.")
    ] = False,
    data: DataFolder = DEFAULT_FOLDER,
    as_json: Json = False,
) -> None:
    """Store a knowledge base from an archive, under the id that it had.

    Runs on the server's host; the server may go on. The whole archive is checked before anything is written, and the
    knowledge base is there when it is complete. An import that was interrupted goes on with the same command.
    """
    import asyncio

    if file.exists() and not file.is_file():
        raise InaccessibleFile(f"{file} is not a regular file, in which the command can go back and forth")
    settings = server_settings(data=data)
    existing_database(settings)
    end_as_ctrl_c_does(signal.SIGTERM)
    if undo:
        removed = asyncio.run(_undo(settings, file))
        show({"removed": removed}, as_json, lambda: note("removed" if removed else "nothing of this archive is left"))
        return
    done = asyncio.run(_import(settings, org, file))
    show(done, as_json, lambda: fields([("kb_id", done.kb_id), ("chunks", done.chunks)]))
    note("keys with a default permission may use it; for others, give permissions with `xtrace keys grant`")


async def _undo(settings: "Settings", file: Path) -> bool:
    from xtrace_server.operations.moving import undo_import
    from xtrace_server.schemes import load_schemes

    async with server_database(settings) as database:
        with _import_faults(file):
            return await undo_import(database, load_schemes(settings.insecure_schemes or ()), file)


async def _import(settings: "Settings", org: str | None, file: Path) -> "Imported":
    from xtrace_server.operations import organisations
    from xtrace_server.operations.moving import import_knowledge_base
    from xtrace_server.schemes import load_schemes

    async with server_database(settings) as database:
        if org is None:
            ids = await organisations.list_ids(database)
            if len(ids) != 1:
                raise InvalidArgument("the server has several organisations: name one with --org")
            (org,) = ids
        with _import_faults(file):
            schemes = load_schemes(settings.insecure_schemes or ())
            return await import_knowledge_base(database, schemes, org, file)


@contextmanager
def _import_faults(file: Path) -> Iterator[None]:
    from xtrace_server.storage.imports import CannotImport

    with archive_faults(file):
        try:
            yield
        except CannotImport as error:
            raise InvalidArgument(f"{file} cannot be imported: {error}") from None
