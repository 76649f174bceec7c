"""`xtrace vacuum`: returns the space of deleted chunks to the disk."""

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

    Prints how many bytes were released. Run this on the server's host; the server may keep running. Searches are
    answered meanwhile, but writes wait. Needs as much free space as the size of the database.
    """
    database = existing_database(server_settings(data=data))
    with database_faults():
        done = database.vacuum()
    show(done, as_json, lambda: typer.echo(f"{done.bytes_given_back} bytes released, {done.bytes_now} in use"))
    if not done.complete:
        note("the server was busy reading: the remaining space is released later, or run this command again")
