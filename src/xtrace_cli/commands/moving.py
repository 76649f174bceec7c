"""`xtrace export` and `xtrace import`: move one knowledge base from one server to another."""

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
    """Write one knowledge base to an archive, with the contexts of its chunks.

    Run this on the server's host; the server may keep running. The archive is a snapshot of the moment at which the
    command began. It contains ciphertext and metadata as stored, but not the organisation's name or keys.
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
        typer.Option(metavar="ORG_ID", help="The organisation to import into; optional if there is only one."),
    ] = None,
    undo: Annotated[
        bool, typer.Option("--undo", help="Delete what an interrupted import of this archive has stored.")
    ] = False,
    data: DataFolder = DEFAULT_FOLDER,
    as_json: Json = False,
) -> None:
    """Store a knowledge base from an archive, under its original id.

    Run this on the server's host; the server may keep running. The whole archive is checked before anything is
    written, and the knowledge base appears once it is complete. Run the same command again to resume an interrupted
    import.
    """
    import asyncio

    if file.exists() and not file.is_file():
        raise InaccessibleFile(f"{file} is not a regular file; the command needs random access")
    settings = server_settings(data=data)
    existing_database(settings)
    end_as_ctrl_c_does(signal.SIGTERM)
    if undo:
        removed = asyncio.run(_undo(settings, file))
        show({"removed": removed}, as_json, lambda: note("removed" if removed else "nothing to remove"))
        return
    done = asyncio.run(_import(settings, org, file))
    show(done, as_json, lambda: fields([("kb_id", done.kb_id), ("chunks", done.chunks)]))
    note("keys with a default permission can use it; grant others access with `xtrace keys grant`")


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
