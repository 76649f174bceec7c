"""`xtrace db`: the databases of servers, as a whole."""

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xtrace_cli.errors import UnusableData, WrongUse
from xtrace_cli.groups import new_group
from xtrace_cli.options.server_data import database_faults, has_password
from xtrace_cli.output import Json, fields, note, show
from xtrace_cli.signals import end_as_ctrl_c_does

if TYPE_CHECKING:
    from xtrace_server.storage.dialects import Dialect

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
