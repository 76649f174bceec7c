"""`xtrace operator`: a server's operator key and its own audit log, on the server's host."""

from typing import Annotated

import typer

from xtrace_cli.commands.audit import show_entries
from xtrace_cli.commands.org import known_url
from xtrace_cli.groups import new_group
from xtrace_cli.options.server_data import DEFAULT_FOLDER, DataFolder, operate
from xtrace_cli.output import Json, Yes, confirm, fields, note, show

app = new_group(
    "operator",
    "The server's operator: key, audit log. Works on the server's host, in its data folder, also while it runs.",
)


@app.command("rotate-key")
def rotate_key(yes: Yes = False, data: DataFolder = DEFAULT_FOLDER, as_json: Json = False) -> None:
    """Replace the operator key and print the new one, after confirmation. The old key stops working at once.

    It will not be shown again: the server keeps only its hash, and operator.json is not updated.
    """
    from xtrace_server.auth.guard import ON_THE_HOST
    from xtrace_server.operations import operator_key

    confirm("Replace the operator key?", yes)
    key = operate(data, lambda database: operator_key.rotate(database, ON_THE_HOST))
    result = {"operator_key": key, "api_url": known_url(data)}
    show(result, as_json, lambda: fields(list(result.items())))
    note("this key will not be shown again")


@app.command()
def audit(
    org: Annotated[
        str | None,
        typer.Option(metavar="ORG_ID", help="Print this organisation's log instead of the server's own."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="The number of entries to print.")] = 100,
    before: Annotated[
        int | None, typer.Option(metavar="ID", min=1, help="Print only entries before the one with this id.")
    ] = None,
    data: DataFolder = DEFAULT_FOLDER,
    as_json: Json = False,
) -> None:
    """Print rotations of the operator key and denied attempts to use it, newest first."""
    from xtrace_server.operations.audit import newest_of, shown
    from xtrace_server.storage.database import THE_SERVICE

    found = operate(data, lambda database: newest_of(database, org or THE_SERVICE, before, limit))
    show_entries([shown(entry) for entry in found], as_json)
