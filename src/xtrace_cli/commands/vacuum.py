"""`xtrace vacuum`: the space of deleted chunks, given back to the disk."""

import typer

from xtrace_cli.options.server_data import (
    DEFAULT_FOLDER,
    DataFolder,
    database_faults,
    existing_database,
    server_settings,
)
from xtrace_cli.output import Json, note, show


def vacuum(data: DataFolder = DEFAULT_FOLDER, as_json: Json = False) -> None:
    """Return the space of deleted chunks to the disk.

    Prints how many bytes that is. Runs on the server's host. The server may go on: searches are answered meanwhile,
    writes wait. Needs as much free space as the database is large.
    """
    database = existing_database(server_settings(data=data))
    with database_faults():
        done = database.vacuum()
    show(done, as_json, lambda: typer.echo(f"{done.bytes_given_back} bytes given back, {done.bytes_now} in use"))
    if not done.complete:
        note("the server was reading all the time: the rest is given back by itself later, or run this again")
