"""`xtrace org`: a server's organisations, for its operator, on the server's host."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from msgspec import UNSET

from xtrace_cli.groups import new_group
from xtrace_cli.options.amount import amount
from xtrace_cli.options.server_data import DEFAULT_FOLDER, DataFolder, operate
from xtrace_cli.output import Json, Yes, confirm, fields, note, say, show, table
from xtrace_core import wire
from xtrace_sdk.errors import InaccessibleFile, InvalidArgument

if TYPE_CHECKING:
    from xtrace_server.operations.organisations import NewOrganisation
    from xtrace_server.storage.organisations import AdminKey

app = new_group(
    "org",
    "Organisations: create, list, suspend, quotas, delete, admin keys. Works on the server's host, in its data folder, "
    "also while it runs.",
)

OrgId = Annotated[str, typer.Argument(metavar="ORG_ID", help="The organisation, as `xtrace org list` shows it.")]
_SHOWN_HASH = 12
_DEFAULT_URL = "http://127.0.0.1:8000"


@app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name for people to read.")],
    write: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the credentials to a new file (mode 0600) instead of printing them."),
    ] = None,
    api_url: Annotated[
        str | None,
        typer.Option(help="The server's address for the credentials; by default as in the data folder's credentials."),
    ] = None,
    data: DataFolder = DEFAULT_FOLDER,
    as_json: Json = False,
) -> None:
    """Create an organisation with an admin key and an API key, and print them.

    They will not be shown again: the server keeps only hashes. The API key has full access to every knowledge base of
    the organisation.
    """
    from xtrace_server.auth.guard import ON_THE_HOST
    from xtrace_server.bootstrap import credentials_of
    from xtrace_server.credentials import write_credentials
    from xtrace_server.operations import organisations

    if not name:
        raise InvalidArgument("the name is empty, expected a readable name")
    if write is not None and write.exists():
        raise InaccessibleFile(f"{write} exists: it may contain the only copy of other keys, so name a new file")
    url = api_url or known_url(data)

    def deliver(new: "NewOrganisation") -> None:
        if write is None:
            return
        try:
            write_credentials(write, credentials_of(new, url))
        except OSError as error:
            raise InaccessibleFile(f"the credentials cannot be written to {write}: {error.strerror}") from None

    new = operate(data, lambda database: organisations.create(database, ON_THE_HOST, name, deliver))
    credentials = credentials_of(new, url)
    if write is not None:
        result = {"org_id": credentials.org_id, "credentials_file": str(write)}
        show(result, as_json, lambda: say(credentials.org_id))
        note(f"the credentials are only in {write}: keep that file")
        return
    lines = [(name, getattr(credentials, name)) for name in credentials.__struct_fields__]
    show(credentials, as_json, lambda: fields(lines))
    note("these keys will not be shown again")


@app.command("list")
def list_(data: DataFolder = DEFAULT_FOLDER, as_json: Json = False) -> None:
    """List the organisations and what they have stored, oldest first.

    Quotas follow after a slash.
    """
    from xtrace_server.operations import organisations

    found = operate(data, organisations.list_shown)
    rows = [
        (one.id, one.created_at, one.state, *[_used(one, name) for name in ("chunks", "bytes", "contexts")], one.name)
        for one in found
    ]
    headings = ("ID", "CREATED", "STATE", "CHUNKS", "BYTES", "CONTEXTS", "NAME")
    show([_shown(one) for one in found], as_json, lambda: table(headings, rows))


@app.command("show")
def show_one(org_id: OrgId, data: DataFolder = DEFAULT_FOLDER, as_json: Json = False) -> None:
    """Show an organisation with its usage and quotas."""
    from xtrace_server.operations import organisations

    one = operate(data, lambda database: organisations.get_shown(database, org_id))
    show(_shown(one), as_json, lambda: fields(lines_of(one)))


@app.command()
def quota(
    org_id: OrgId,
    chunks: Annotated[
        str | None, typer.Option(metavar="N", help="The maximum number of chunks; `none` for no limit.")
    ] = None,
    bytes_: Annotated[
        str | None,
        typer.Option("--bytes", metavar="SIZE", help="The maximum size, such as 500MiB or 10GiB; `none` for no limit."),
    ] = None,
    contexts: Annotated[
        str | None, typer.Option(metavar="N", help="The maximum number of execution contexts; `none` for no limit.")
    ] = None,
    requests_per_minute: Annotated[
        str | None,
        typer.Option(metavar="N", help="The maximum number of requests per minute with its API keys, or `none`."),
    ] = None,
    requests_per_day: Annotated[
        str | None,
        typer.Option(metavar="N", help="The maximum number of requests per day with its API keys, or `none`."),
    ] = None,
    data: DataFolder = DEFAULT_FOLDER,
    as_json: Json = False,
) -> None:
    """Change quotas of an organisation, and show it. Other quotas stay unchanged.

    Requests that would exceed a quota are rejected (403 `quota_exceeded`). Data that is already stored stays.
    """
    from xtrace_server.auth.guard import ON_THE_HOST
    from xtrace_server.operations import organisations

    given = {
        "chunks": chunks,
        "bytes": bytes_,
        "contexts": contexts,
        "requests_per_minute": requests_per_minute,
        "requests_per_day": requests_per_day,
    }
    change = wire.SetQuotas(**{name: amount(text) for name, text in given.items() if text is not None})
    one = operate(data, lambda database: organisations.set_quotas(database, ON_THE_HOST, org_id, change))
    show(_shown(one), as_json, lambda: fields(lines_of(one)))


@app.command()
def suspend(org_id: OrgId, data: DataFolder = DEFAULT_FOLDER, as_json: Json = False) -> None:
    """Suspend an organisation: calls with its keys are rejected (403 `suspended`). Nothing is deleted."""
    from xtrace_server.auth.guard import ON_THE_HOST
    from xtrace_server.operations import organisations

    found = operate(data, lambda database: organisations.suspend(database, ON_THE_HOST, org_id))
    show(_shown(found), as_json, lambda: note(f"suspended {found.id} ({found.name})"))


@app.command()
def resume(org_id: OrgId, data: DataFolder = DEFAULT_FOLDER, as_json: Json = False) -> None:
    """End the suspension of an organisation: its keys work again."""
    from xtrace_server.auth.guard import ON_THE_HOST
    from xtrace_server.operations import organisations

    found = operate(data, lambda database: organisations.resume(database, ON_THE_HOST, org_id))
    show(_shown(found), as_json, lambda: note(f"resumed {found.id} ({found.name})"))


@app.command()
def delete(org_id: OrgId, yes: Yes = False, data: DataFolder = DEFAULT_FOLDER, as_json: Json = False) -> None:
    """Delete an organisation with all its data, after confirmation. This cannot be undone.

    Its keys stop working at once. A running server then erases its data in steps, until no file of the database
    contains it; until then, `xtrace org list` shows the organisation. Its audit log stays, without its name.
    """
    from xtrace_server.auth.guard import ON_THE_HOST
    from xtrace_server.operations import organisations

    one = operate(data, lambda database: organisations.get_shown(database, org_id))
    stored = f"{one.usage.chunks} chunks in {one.usage.knowledge_bases} knowledge bases"
    confirm(f"Delete the organisation {one.id} ({one.name}) with {stored}?", yes)
    operate(data, lambda database: organisations.delete(database, ON_THE_HOST, org_id))
    result = {"org_id": one.id, "deleted": True}
    show(result, as_json, lambda: note(f"deleted {one.id} ({one.name})"))


@app.command("admin-key")
def admin_key(
    org_id: OrgId,
    rotate: Annotated[
        bool, typer.Option("--rotate", help="Revoke every other admin key of the organisation, after confirmation.")
    ] = False,
    yes: Yes = False,
    data: DataFolder = DEFAULT_FOLDER,
    as_json: Json = False,
) -> None:
    """Issue a new admin key for an organisation, for instance if it lost its own, and print it.

    It will not be shown again: the server keeps only hashes. Other admin keys keep working, unless `--rotate` is given.
    """
    from xtrace_server.auth.guard import ON_THE_HOST
    from xtrace_server.operations import admin_keys

    if rotate:
        confirm(f"Revoke every other admin key of {org_id}?", yes)
    act = admin_keys.rotate if rotate else admin_keys.create
    _, key = operate(data, lambda database: act(database, ON_THE_HOST, org_id))
    result = {"org_id": org_id, "admin_key": key, "api_url": known_url(data)}
    show(result, as_json, lambda: fields(list(result.items())))
    note("this key will not be shown again")


@app.command("admin-keys")
def list_admin_keys(org_id: OrgId, data: DataFolder = DEFAULT_FOLDER, as_json: Json = False) -> None:
    """List an organisation's admin keys by hash, oldest first."""
    from xtrace_server.operations import admin_keys

    keys = operate(data, lambda database: admin_keys.list_all(database, org_id))
    result = [{"hash": key.hash, "created_at": key.created_at} for key in keys]
    rows = [(key.hash, key.created_at) for key in keys]
    show(result, as_json, lambda: table(("HASH", "CREATED"), rows))


@app.command("revoke-admin-key")
def revoke_admin_key(
    org_id: OrgId,
    key: Annotated[
        str,
        typer.Argument(
            metavar="HASH", help="The key's hash, or the beginning of it, as `xtrace org admin-keys` shows it."
        ),
    ],
    yes: Yes = False,
    data: DataFolder = DEFAULT_FOLDER,
    as_json: Json = False,
) -> None:
    """Revoke an admin key of an organisation. This cannot be undone.

    Without any admin key, the organisation's API keys keep working, but its knowledge bases and keys cannot be changed
    until you run `xtrace org admin-key`.
    """
    from xtrace_server.auth.guard import ON_THE_HOST
    from xtrace_server.operations import admin_keys

    found = _named(key, operate(data, lambda database: admin_keys.list_all(database, org_id)))
    confirm(f"Revoke the admin key {found.hash[:_SHOWN_HASH]}… of {org_id}?", yes)
    left = operate(data, lambda database: admin_keys.revoke(database, ON_THE_HOST, org_id, found.hash))
    result = {"hash": found.hash, "left": left}
    show(result, as_json, lambda: note(f"revoked the admin key {found.hash[:_SHOWN_HASH]}…; {left} left"))


def _named(key: str, keys: "list[AdminKey]") -> "AdminKey":
    """Returns the key whose hash has this prefix. Raises `InvalidArgument`."""
    named = [one for one in keys if one.hash.startswith(key)] if key else []
    # The input is not echoed: it may be a whole key, pasted by mistake.
    if len(named) != 1:
        raise InvalidArgument(
            f"{len(named) or 'no'} admin keys match this hash, expected exactly one: see `xtrace org admin-keys`"
        )
    return named[0]


def _used(one: wire.Organisation, name: str) -> str:
    quota = getattr(one.quotas, name)
    return f"{getattr(one.usage, name)}" + ("" if quota is None else f"/{quota}")


def _shown(one: wire.Organisation) -> dict[str, Any]:
    return {
        "org_id": one.id,
        "name": one.name,
        "state": one.state,
        "created_at": one.created_at,
        "suspended_at": one.suspended_at,
        "deleted_at": None if one.deleted_at is UNSET else one.deleted_at,
        "usage": {name: getattr(one.usage, name) for name in one.usage.__struct_fields__},
        "quotas": {name: getattr(one.quotas, name) for name in one.quotas.__struct_fields__},
    }


def lines_of(one: wire.Organisation) -> list[tuple[str, object]]:
    """Returns an organisation as names and values, each with its quota, if any, after a slash."""
    requests = one.usage.requests_this_minute, one.usage.requests_today
    quotas = one.quotas.requests_per_minute, one.quotas.requests_per_day
    return [
        ("org_id", one.id),
        ("name", one.name),
        ("created_at", one.created_at),
        ("state", one.state),
        *[(name, _used(one, name)) for name in ("chunks", "bytes", "contexts")],
        ("knowledge_bases", one.usage.knowledge_bases),
        *[
            (f"requests_{window}", f"{used}" + ("" if most is None else f"/{most}"))
            for window, used, most in zip(("this_minute", "today"), requests, quotas, strict=True)
        ],
    ]


def known_url(data: Path) -> str:
    """Returns the address that the server wrote at its last start, or the default if the operator moved that file."""
    import msgspec

    from xtrace_server.credentials import CREDENTIALS_FILE, read_credentials

    try:
        return read_credentials(data / CREDENTIALS_FILE).api_url
    except (OSError, msgspec.DecodeError):
        return _DEFAULT_URL
