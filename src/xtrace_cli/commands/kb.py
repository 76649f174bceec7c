"""`xtrace kb`: the knowledge bases of an organisation. JSON results are the objects of the HTTP contract.

`xtrace kb verify`, `manifest` and `copy` are in `kb_verify.py`, `kb_manifest.py` and `kb_copy.py`.
"""

from typing import Annotated

import typer

from xtrace_cli.groups import new_group
from xtrace_cli.options.connection import CredentialsFile, with_admin_key
from xtrace_cli.output import Json, Yes, confirm, fields, note, say, show, table

app = new_group("kb", "Knowledge bases: create, list, describe, delete (with the organisation's admin key), verify.")

KbId = Annotated[str, typer.Argument(metavar="KB_ID", help="The knowledge base's id, as `xtrace kb list` shows it.")]


@app.command()
def create(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A name for people to read; the service can read it too.")
    ],
    description: Annotated[str, typer.Option(help="What the knowledge base is for.")] = "",
    credentials: CredentialsFile = None,
    as_json: Json = False,
) -> None:
    """Creates a knowledge base and prints its id."""
    kb = with_admin_key(credentials, lambda xtrace: xtrace.create_kb(name, description))
    show(kb, as_json, lambda: say(kb.id))


@app.command("list")
def list_(credentials: CredentialsFile = None, as_json: Json = False) -> None:
    """Lists the knowledge bases with their numbers of vectors."""
    kbs = with_admin_key(credentials, lambda xtrace: xtrace.list_kbs())
    rows = [(kb.id, kb.number_of_vectors, kb.created_at, kb.name) for kb in kbs]
    show(kbs, as_json, lambda: table(("ID", "VECTORS", "CREATED", "NAME"), rows))


@app.command()
def describe(kb_id: KbId, credentials: CredentialsFile = None, as_json: Json = False) -> None:
    """Prints what is known about one knowledge base."""
    kb = with_admin_key(credentials, lambda xtrace: xtrace.get_kb(kb_id))
    lines = [
        ("id", kb.id),
        ("name", kb.name),
        ("description", kb.description),
        ("vectors", kb.number_of_vectors),
        ("created", kb.created_at),
        ("updated", kb.updated_at),
    ]
    show(kb, as_json, lambda: fields(lines))


@app.command()
def delete(kb_id: KbId, yes: Yes = False, credentials: CredentialsFile = None, as_json: Json = False) -> None:
    """Deletes a knowledge base with every chunk in it. This cannot be undone."""
    confirm(f"Delete the knowledge base {kb_id} with every chunk in it?", yes)
    with_admin_key(credentials, lambda xtrace: xtrace.delete_kb(kb_id))
    show({"id": kb_id, "deleted": True}, as_json, lambda: note(f"deleted the knowledge base {kb_id}"))
