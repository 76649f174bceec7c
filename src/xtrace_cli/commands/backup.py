"""`xtrace backup` and `xtrace restore`: everything that a server stores, in one archive."""

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xtrace_cli.options.server_data import (
    DEFAULT_FOLDER,
    DataFolder,
    archive_faults,
    existing_database,
    server_settings,
)
from xtrace_cli.output import Json, fields, note, show
from xtrace_cli.signals import end_as_ctrl_c_does
from xtrace_sdk.errors import InaccessibleFile

if TYPE_CHECKING:
    from xtrace_server.storage.archiving import Archived


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The archive to write; it must not exist.")],
    data: DataFolder = DEFAULT_FOLDER,
    as_json: Json = False,
) -> None:
    """Write everything that the server stores to one archive.

    Run this on the server's host; the server may keep running. The archive is a snapshot of the moment at which the
    command began. FILE (mode 0600) appears once it is complete. It contains only data that the server itself can read:
    no context keys, and only hashes of API keys and admin keys. It does not contain the data folder's
    credentials.json.
    """
    from xtrace_server.storage.archiving import back_up

    database = existing_database(server_settings(data=data))
    end_as_ctrl_c_does(signal.SIGTERM)
    with archive_faults(file):
        try:
            done = back_up(database, file)
        except FileExistsError:
            raise InaccessibleFile(f"{file} exists: name a new file") from None
        except OSError as error:
            raise InaccessibleFile(f"{file} cannot be written: {error.strerror}") from None
    _show(done, as_json)


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An archive of `xtrace backup`.")],
    check: Annotated[bool, typer.Option("--check", help="Only verify the archive.")] = False,
    data: DataFolder = DEFAULT_FOLDER,
    as_json: Json = False,
) -> None:
    """Create the database of a server from an archive.

    The data folder must not contain a database, and no server may be running on it. The whole archive is checked
    before anything is written, and the database appears once it is complete. After a failure, run the command again.
    """
    from xtrace_server.storage import archiving
    from xtrace_server.storage.dialects import dialect_of

    if file.exists() and not file.is_file():
        raise InaccessibleFile(f"{file} is not a regular file; the command needs random access")
    end_as_ctrl_c_does(signal.SIGTERM)
    with archive_faults(file):
        if check:
            done = archiving.checked(file)
        else:
            settings = server_settings(data=data)
            done = archiving.restore(dialect_of(settings.resolved_database_url), settings.data, file)
    _show(done, as_json)
    if not check:
        note("start the server to use it; keys that were valid at the time of the backup are valid again")


def _show(done: "Archived", as_json: bool) -> None:
    lines = [(name, getattr(done, name)) for name in ("created_at", "rows", "bytes")]
    show(done, as_json, lambda: fields(lines))
