"""The first start: an organisation with its keys, written where only the operator reads them.

Also what an operator does on the server's host: further organisations.
"""

import asyncio
from pathlib import Path

from xtrace_server.auth.issuing import NewOrganisation, new_organisation
from xtrace_server.credentials import CREDENTIALS_FILE, Credentials, read_credentials, write_credentials
from xtrace_server.storage import organisations
from xtrace_server.storage.database import Database
from xtrace_server.storage.organisations import Organisation

FIRST_ORGANISATION = "default"


async def prepare(database: Database, folder: Path, api_url: str) -> bool:
    """Makes the first organisation where there is none, and keeps `api_url` in the file right; whether it
    made one.

    The file is on the disk before the database knows the keys, so no interruption leaves keys that nobody
    has.
    """
    path = folder / CREDENTIALS_FILE
    async with database.write() as connection:
        first = not await organisations.list_all(connection)
        if first:
            new = await new_organisation(connection, FIRST_ORGANISATION)
            credentials = Credentials(new.organisation.id, new.admin_key, new.api_key, api_url)
            await asyncio.to_thread(write_credentials, path, credentials)
    if not first:
        await asyncio.to_thread(_update_url, path, api_url)
    return first


async def create_organisation(database: Database, name: str) -> NewOrganisation:
    """A further organisation; its keys are returned this once."""
    async with database.write() as connection:
        return await new_organisation(connection, name)


async def list_organisations(database: Database) -> list[Organisation]:
    """Every organisation, the oldest first."""
    async with database.read() as connection:
        return await organisations.list_all(connection)


def _update_url(path: Path, api_url: str) -> None:
    # The operator may have moved the file to a safer place; then there is nothing to keep right. Written even with
    # the same URL: whoever started the server sees by the file's time that it is this server's.
    if path.exists():
        credentials = read_credentials(path)
        credentials.api_url = api_url
        write_credentials(path, credentials)
