"""`xtrace keys`: an organisation's API keys and what they may do. JSON results are the objects of the HTTP contract."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from xtrace_cli.commands.kb import KbId
from xtrace_cli.errors import WrongUse
from xtrace_cli.groups import new_group
from xtrace_cli.options.api_keys import PERMISSIONS, Level, find_key
from xtrace_cli.options.connection import CredentialsFile, with_admin_key
from xtrace_cli.options.expiry import Expires, moment_of
from xtrace_cli.output import Json, Yes, confirm, note, say, show, table
from xtrace_core import wire

if TYPE_CHECKING:
    from xtrace_sdk.service.integration import XTraceIntegration

app = new_group("keys", "API keys: create, list, edit, grant, revoke. Needs the organisation's admin key.")

Key = Annotated[
    str,
    typer.Argument(
        metavar="KEY", help="The key's first five characters, or its hash, as `xtrace keys list` shows them."
    ),
]


@app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name for people to read.")],
    description: Annotated[str, typer.Option(help="What the key is for.")] = "",
    expires: Expires = None,
    credentials: CredentialsFile = None,
    as_json: Json = False,
) -> None:
    """Create an API key, which has no permissions yet, and print it.

    It will not be shown again: the service keeps only its hash.
    """
    expires_at = None if expires is None else moment_of(expires)
    created = with_admin_key(
        credentials, lambda xtrace: xtrace.create_api_key(name, description, expires_at=expires_at)
    )
    show(created, as_json, lambda: say(created.secret_key))
    first_n = created.api_key.first_n
    note(f"this key will not be shown again; grant access with: xtrace keys grant {first_n} KB_ID read")


@app.command("list")
def list_(credentials: CredentialsFile = None, as_json: Json = False) -> None:
    """List the API keys that are not revoked, by their first five characters."""
    keys = with_admin_key(credentials, lambda xtrace: xtrace.list_api_keys())
    rows = [
        (key.first_n, key.created_at, key.last_used_at or "never", key.expires_at or "never", key.hash, key.name)
        for key in keys
    ]
    show(keys, as_json, lambda: table(("KEY", "CREATED", "LAST USED", "EXPIRES", "HASH", "NAME"), rows))


@app.command()
def edit(
    key: Key,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Its new name.")] = None,
    description: Annotated[str | None, typer.Option(help="What the key is for.")] = None,
    expires: Annotated[
        str | None,
        typer.Option("--expires", metavar="WHEN", help="When it expires, as for `xtrace keys create`; or `never`."),
    ] = None,
    credentials: CredentialsFile = None,
    as_json: Json = False,
) -> None:
    """Change an API key's name, description or expiry. A key that has expired works again until the new time."""
    changes: dict[str, Any] = {"name": name, "description": description}
    changes = {field: value for field, value in changes.items() if value is not None}
    if expires is not None:
        changes["expires_at"] = None if expires == "never" else moment_of(expires)
    if not changes:
        raise WrongUse("nothing to change: use --name, --description or --expires")

    async def call(xtrace: "XTraceIntegration") -> wire.ApiKey:
        found = await find_key(xtrace, key)
        return await xtrace.update_api_key(found.hash, **changes)

    changed = with_admin_key(credentials, call)
    until = f"expires at {changed.expires_at}" if changed.expires_at else "does not expire"
    show(changed, as_json, lambda: note(f"the key {changed.first_n}… ({changed.name}) {until}"))


@app.command()
def grant(
    key: Key,
    kb_id: KbId,
    level: Annotated[Level, typer.Argument(metavar="LEVEL", help="The new permission.")],
    credentials: CredentialsFile = None,
    as_json: Json = False,
) -> None:
    """Set an API key's permission in a knowledge base: none, read, read and write, or also delete."""
    permission = PERMISSIONS[level]

    async def call(xtrace: "XTraceIntegration") -> wire.ApiKey:
        found = await find_key(xtrace, key)
        await xtrace.set_key_permission(found.hash, kb_id, permission)
        return found

    found = with_admin_key(credentials, call)
    result = {"hash": found.hash, "knowledgeBaseId": kb_id, "permission": permission}
    show(result, as_json, lambda: note(f"the key {found.first_n}… now has this permission in {kb_id}: {level}"))


@app.command()
def revoke(key: Key, yes: Yes = False, credentials: CredentialsFile = None, as_json: Json = False) -> None:
    """Revoke an API key, which stops working at once. This cannot be undone."""

    async def call(xtrace: "XTraceIntegration") -> wire.ApiKey:
        found = await find_key(xtrace, key)
        confirm(f"Revoke the key {found.first_n}… ({found.name})?", yes)
        await xtrace.revoke_api_key(found.hash)
        return found

    found = with_admin_key(credentials, call)
    result = {"hash": found.hash, "revoked": True}
    show(result, as_json, lambda: note(f"revoked the key {found.first_n}… ({found.name})"))
