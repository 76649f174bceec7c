"""`xtrace db`: the databases of servers, as a whole."""

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xtrace_cli.errors import FaultyDatabase, UnusableData, WrongUse
from xtrace_cli.groups import new_group
from xtrace_cli.options.server_data import (
    DEFAULT_FOLDER,
    DataFolder,
    database_faults,
    existing_database,
    has_password,
    server_settings,
)
from xtrace_cli.output import Json, fields, note, show
from xtrace_cli.signals import end_as_ctrl_c_does

if TYPE_CHECKING:
    from xtrace_server.storage.dialects import Dialect
    from xtrace_server.storage.integrity import Checked, Fault

app = new_group("db", "The server's database as a whole; runs on the server's host.")


@app.command()
def copy(
    source: Annotated[str, typer.Argument(metavar="FROM", help="The data folder of a server, or a postgresql:// URL.")],
    target: Annotated[
        str, typer.Argument(metavar="TO", help="A folder without a database, or the URL of an empty database.")
    ],
    as_json: Json = False,
) -> None:
    """Copy everything that a server stores to another database, SQLite or PostgreSQL.

    A server may keep running on FROM. The copy is a snapshot of the moment at which the command began, so stop the
    server first to move permanently. The command reads the copy back and compares checksums. If it is killed, `xtrace
    serve` refuses to start on TO until you run it again; it then starts over. The data folder's credentials.json is
    not copied.

    Put passwords into a password file (PGPASSFILE) or PGPASSWORD, not into the URLs.
    """
    from xtrace_server.storage import copies

    (original, _), (copied, folder) = _database(source), _database(target)
    end_as_ctrl_c_does(signal.SIGTERM)
    with database_faults():
        if not original.exists():
            raise UnusableData(f"no database was found in {original.location}: give a data folder or a database URL")
        done = copies.copy(original, copied, folder)
    show(
        done,
        as_json,
        lambda: fields([(name, getattr(done, name)) for name in ("created_at", "rows", "bytes", "sha256")]),
    )
    note("later writes to FROM are not in TO; keys are valid for both")


@app.command()
def check(data: DataFolder = DEFAULT_FOLDER, as_json: Json = False) -> None:
    """Check what a server's database stores, and list what is damaged or does not fit together.

    Compares the body of each block with its SHA-256, the slots of blocks with the chunks that refer to them, and the
    counts and bytes of knowledge bases and organisations with what is stored; in SQLite also the pages of a database
    of up to 1 GiB. Contents and vectors are encrypted, so only clients can check those (`xtrace kb verify`). Nothing
    is changed, and a server may keep running. The exit status is 1 if anything is wrong.
    """
    from dataclasses import asdict

    from xtrace_server.storage import integrity

    database = existing_database(server_settings(data=data))
    with database_faults():
        done = integrity.check(database)
    show(asdict(done), as_json, lambda: _print(done))
    if count := len(done.faults) + done.more:
        raise FaultyDatabase(f"{count} faults were found: see the section Damaged blocks of docs/operations.md")


def _print(done: "Checked") -> None:
    for one in done.faults:
        typer.echo(f"{_place(one)}: {one.fault}")
    note(
        f"{done.chunks} chunks in {done.knowledge_bases} knowledge bases and {done.blocks} blocks were checked, "
        f"{len(done.faults) + done.more} faults were found"
    )


def _place(fault: "Fault") -> str:
    names = {"organisation": fault.organisation_id, "knowledge base": fault.kb_id, "block": fault.block_id}
    return ", ".join([f"{name} {value}" for name, value in names.items() if value is not None])


def _database(place: str) -> "tuple[Dialect, Path | None]":
    """Returns the database in a folder or at a URL, and its data folder if it has one. Raises `WrongUse`."""
    from xtrace_server.storage.dialects import default_url, dialect_of

    if "://" not in place:
        return dialect_of(default_url(Path(place))), Path(place)
    if has_password(place):
        raise WrongUse(
            "a URL contains a password, and every user can read arguments: use PGPASSWORD or a password file "
            "(PGPASSFILE)"
        )
    if not place.startswith(("postgresql://", "postgres://")):
        raise WrongUse(f"{place.partition('://')[0]}:// is not a database: expected a folder or a postgresql:// URL")
    try:
        return dialect_of(place), None
    except ValueError as error:
        raise WrongUse(str(error)) from None
