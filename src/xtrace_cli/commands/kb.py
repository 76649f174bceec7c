"""`xtrace kb`: the knowledge bases of an organisation. JSON results are the objects of the HTTP contract.

`xtrace kb verify`, `manifest`, `copy` and `seal` are in `kb_verify.py`, `kb_manifest.py`, `kb_copy.py` and
`kb_seal.py`.
"""

from typing import TYPE_CHECKING, Annotated

import typer

from xtrace_cli.groups import new_group
from xtrace_cli.options.api_keys import PERMISSIONS, Level, configured_key, find_key
from xtrace_cli.options.connection import CredentialsFile, with_admin_key
from xtrace_cli.options.knowledge_bases import KnowledgeBases, named_kbs
from xtrace_cli.output import Json, Yes, check_confirmable, confirm_by_name, fields, note, say, show, table
from xtrace_core import wire

if TYPE_CHECKING:
    from xtrace_sdk.service.integration import XTraceIntegration

app = new_group("kb", "Knowledge bases: create, list, describe, delete (with the organisation's admin key), verify.")

KbId = Annotated[str, typer.Argument(metavar="KB_ID", help="The knowledge base's id, as `xtrace kb list` shows it.")]


@app.command()
def create(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A name for people to read; the service can read it too.")
    ],
    description: Annotated[str, typer.Option("-d", "--description", help="What the knowledge base is for.")] = "",
    permission: Annotated[
        Level | None,
        typer.Option(
            "-p",
            "--permission",
            help="The permission of an API key in it; by default the key's default permission.",
        ),
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(
            "-a",
            "--api-key",
            metavar="KEY",
            help="The API key for --permission: its first five characters or its hash; by default the one in use.",
        ),
    ] = None,
    credentials: CredentialsFile = None,
    as_json: Json = False,
) -> None:
    """Create a knowledge base, and print its id."""
    chosen = api_key or (configured_key(credentials) if permission is not None else "")

    async def call(xtrace: "XTraceIntegration") -> wire.KnowledgeBase:
        # Look the key up first: a typo must not leave an unwanted knowledge base behind.
        key = None if permission is None else await find_key(xtrace, chosen)
        kb = await xtrace.create_kb(name, description)
        if key is not None and permission is not None:
            await xtrace.set_key_permission(key.hash, kb.id, PERMISSIONS[permission])
        return kb

    kb = with_admin_key(credentials, call)
    show(kb, as_json, lambda: say(kb.id))


@app.command("list")
def list_(
    every: Annotated[bool, typer.Option("--all", help="List all of them, which is the default.")] = False,
    credentials: CredentialsFile = None,
    as_json: Json = False,
) -> None:
    """List the knowledge bases and how many vectors each has."""
    kbs = with_admin_key(credentials, lambda xtrace: xtrace.list_kbs())
    rows = [(kb.id, kb.number_of_vectors, kb.created_at, kb.name) for kb in kbs]
    show(kbs, as_json, lambda: table(("ID", "VECTORS", "CREATED", "NAME"), rows))


@app.command()
def describe(names: KnowledgeBases, credentials: CredentialsFile = None, as_json: Json = False) -> None:
    """Print the details of knowledge bases; with --json one object, or a list for several."""
    kbs = with_admin_key(credentials, lambda xtrace: named_kbs(xtrace, names))

    def plain() -> None:
        for number, kb in enumerate(kbs):
            if number:
                typer.echo()
            fields(
                [
                    ("id", kb.id),
                    ("name", kb.name),
                    ("description", kb.description),
                    ("vectors", kb.number_of_vectors),
                    ("created", kb.created_at),
                    ("updated", kb.updated_at),
                ]
            )

    show(kbs if len(names) > 1 else kbs[0], as_json, plain)


@app.command()
def delete(names: KnowledgeBases, yes: Yes = False, credentials: CredentialsFile = None, as_json: Json = False) -> None:
    """Delete knowledge bases with all their chunks. This cannot be undone.

    All of them must exist, else none is deleted. In a terminal, you confirm by typing the name of each.
    """
    check_confirmable(yes)
    kbs = with_admin_key(credentials, lambda xtrace: named_kbs(xtrace, names))
    for kb in kbs:
        what = f"the knowledge base {kb.name} ({kb.id}) with its {kb.number_of_vectors} vectors"
        confirm_by_name(f"This permanently deletes {what}.", kb.name, yes)

    async def call(xtrace: "XTraceIntegration") -> None:
        for kb in kbs:
            await xtrace.delete_kb(kb.id)
            note(f"deleted the knowledge base {kb.name} ({kb.id})")

    with_admin_key(credentials, call)
    results = [{"id": kb.id, "deleted": True} for kb in kbs]
    show(results if len(names) > 1 else results[0], as_json, lambda: None)
