"""`xtrace audit`: the organisation's audit log. JSON results are the objects of the HTTP contract."""

from collections.abc import Sequence
from typing import Annotated

import typer

from xtrace_cli.options.connection import CredentialsFile, with_admin_key
from xtrace_cli.output import Json, show, table
from xtrace_core import wire


def audit(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="The number of entries to print.")] = 100,
    before: Annotated[
        int | None, typer.Option(metavar="ID", min=1, help="Print only entries before the one with this id.")
    ] = None,
    credentials: CredentialsFile = None,
    as_json: Json = False,
) -> None:
    """Print who changed what, and who was denied access, newest first.

    Needs the organisation's admin key. Keys are shown by the beginning of their hash, as in `xtrace keys list`.
    """
    show_entries(with_admin_key(credentials, lambda xtrace: xtrace.audit_log(limit, before)), as_json)


def show_entries(entries: Sequence[wire.AuditEntry], as_json: bool) -> None:
    """Prints entries of an audit log."""
    rows = [
        (entry.id, entry.at, entry.action, entry.count, entry.actor[:12], entry.subject[:36], entry.detail)
        for entry in entries
    ]
    show(entries, as_json, lambda: table(("ID", "TIME", "ACTION", "COUNT", "KEY", "SUBJECT", "DETAIL"), rows))
