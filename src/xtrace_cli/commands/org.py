"""`xtrace org`: the organisations of a server, for its operator, on its host."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xtrace_cli.groups import new_group
from xtrace_cli.options.server_data import (
    DEFAULT_FOLDER,
    DataFolder,
    existing_database,
    server_database,
    server_settings,
)
from xtrace_cli.output import Json, fields, note, say, show, table
from xtrace_sdk.errors import InaccessibleFile, InvalidArgument

if TYPE_CHECKING:
    from xtrace_server.credentials import Credentials
    from xtrace_server.operations.organisations import NewOrganisation
    from xtrace_server.settings import Settings
    from xtrace_server.storage.organisations import Organisation

app = new_group(
    "org",
    "Organisations: create, list, suspend, new admin keys. Works on the server's host, in its data folder, also while "
    "it runs.",
)

OrgId = Annotated[str, typer.Argument(metavar="ORG_ID", help="The organisation, as `xtrace org list` shows it.")]
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
    """Creates an organisation with an admin key and an API key, and prints these credentials.

    They are shown this once: the server keeps only hashes. The API key may do everything in every knowledge base of
    the organisation.
    """
    if not name:
        raise InvalidArgument("the name is empty, expected a name for people to read")
    settings = server_settings(data=data)
    existing_database(settings)
    if write is not None and write.exists():
        raise InaccessibleFile(f"{write} exists: it may hold the only copy of other keys, so name a new file")
    credentials = asyncio.run(_create(settings, name, api_url or _known_url(data), write))
    if write is not None:
        result = {"org_id": credentials.org_id, "credentials_file": str(write)}
        show(result, as_json, lambda: say(credentials.org_id))
        note(f"the credentials are in {write}, and nowhere else")
        return
    lines = [(name, getattr(credentials, name)) for name in credentials.__struct_fields__]
    show(credentials, as_json, lambda: fields(lines))
    note("the keys are shown this once")


@app.command("admin-key")
def admin_key(
    org_id: OrgId,
    data: DataFolder = DEFAULT_FOLDER,
    as_json: Json = False,
) -> None:
    """Issues a new admin key to an organisation, such as one that has lost its own, and prints it.

    It is shown this once: the server keeps only hashes. Admin keys that were issued before go on working.
    """
    settings = server_settings(data=data)
    existing_database(settings)
    key = asyncio.run(_new_admin_key(settings, org_id))
    result = {"org_id": org_id, "admin_key": key, "api_url": _known_url(data)}
    show(result, as_json, lambda: fields(list(result.items())))
    note("the key is shown this once")


@app.command("list")
def list_(data: DataFolder = DEFAULT_FOLDER, as_json: Json = False) -> None:
    """Lists the organisations, the oldest first."""
    settings = server_settings(data=data)
    existing_database(settings)
    found = asyncio.run(_list(settings))
    rows = [(one.id, one.created_at, _state(one), one.name) for one in found]
    show([_shown(one) for one in found], as_json, lambda: table(("ID", "CREATED", "STATE", "NAME"), rows))


@app.command()
def suspend(org_id: OrgId, data: DataFolder = DEFAULT_FOLDER, as_json: Json = False) -> None:
    """Suspends an organisation: every call with one of its keys is refused (403 `suspended`). Deletes nothing."""
    settings = server_settings(data=data)
    existing_database(settings)
    found = asyncio.run(_suspend(settings, org_id))
    show(_shown(found), as_json, lambda: note(f"suspended {found.id} ({found.name})"))


@app.command()
def resume(org_id: OrgId, data: DataFolder = DEFAULT_FOLDER, as_json: Json = False) -> None:
    """Ends the suspension of an organisation: its keys open what they opened before."""
    settings = server_settings(data=data)
    existing_database(settings)
    found = asyncio.run(_resume(settings, org_id))
    show(_shown(found), as_json, lambda: note(f"resumed {found.id} ({found.name})"))


def _state(one: "Organisation") -> str:
    return "active" if one.suspended_at is None else "suspended"


def _shown(one: "Organisation") -> dict[str, str | None]:
    return {"org_id": one.id, "name": one.name, "created_at": one.created_at, "suspended_at": one.suspended_at}


async def _create(settings: "Settings", name: str, api_url: str, file: Path | None) -> "Credentials":
    from xtrace_server.bootstrap import credentials_of
    from xtrace_server.credentials import write_credentials
    from xtrace_server.operations import organisations

    def deliver(new: "NewOrganisation") -> None:
        if file is None:
            return
        try:
            write_credentials(file, credentials_of(new, api_url))
        except OSError as error:
            raise InaccessibleFile(f"the credentials cannot be written to {file}: {error.strerror}") from None

    async with server_database(settings) as database:
        return credentials_of(await organisations.create(database, name, deliver), api_url)


async def _new_admin_key(settings: "Settings", org_id: str) -> str:
    from xtrace_server.operations import organisations

    async with server_database(settings) as database:
        return await organisations.new_admin_key(database, org_id)


async def _suspend(settings: "Settings", org_id: str) -> "Organisation":
    from xtrace_server.operations import organisations

    async with server_database(settings) as database:
        return await organisations.suspend(database, org_id)


async def _resume(settings: "Settings", org_id: str) -> "Organisation":
    from xtrace_server.operations import organisations

    async with server_database(settings) as database:
        return await organisations.resume(database, org_id)


async def _list(settings: "Settings") -> "list[Organisation]":
    from xtrace_server.operations import organisations

    async with server_database(settings) as database:
        return await organisations.list_all(database)


def _known_url(data: Path) -> str:
    """The address that the server wrote down at its last start; the operator may have moved that file away."""
    import msgspec

    from xtrace_server.credentials import CREDENTIALS_FILE, read_credentials

    try:
        return read_credentials(data / CREDENTIALS_FILE).api_url
    except (OSError, msgspec.DecodeError):
        return _DEFAULT_URL
