"""`xtrace usage`: what an organisation has stored, and its quotas. The JSON is the object of the HTTP contract."""

from xtrace_cli.commands.org import lines_of
from xtrace_cli.options.connection import CredentialsFile, with_admin_key
from xtrace_cli.output import Json, fields, show


def usage(credentials: CredentialsFile = None, as_json: Json = False) -> None:
    """Show what the organisation has stored, with quotas after a slash.

    Needs the organisation's admin key. The server's operator sets quotas.
    """
    one = with_admin_key(credentials, lambda xtrace: xtrace.get_organisation())
    show(one, as_json, lambda: fields(lines_of(one)))
