"""The first start: an organisation with its keys, written where only the operator reads them."""

import asyncio
from pathlib import Path

from xtrace_server.credentials import CREDENTIALS_FILE, Credentials, read_credentials, write_credentials
from xtrace_server.operations import organisations
from xtrace_server.operations.organisations import NewOrganisation
from xtrace_server.storage.database import Database

FIRST_ORGANISATION = "default"


async def prepare(database: Database, folder: Path, api_url: str) -> bool:
    """Creates the first organisation if there is none, and updates `api_url` in its file; returns whether it did.

    The file is on the disk before the database knows the keys, so an interruption cannot lose the keys.
    """
    path = folder / CREDENTIALS_FILE

    def deliver(new: NewOrganisation) -> None:
        write_credentials(path, credentials_of(new, api_url))

    first = await organisations.create_first(database, FIRST_ORGANISATION, deliver)
    if not first:
        await asyncio.to_thread(_update_url, path, api_url)
    return first


def credentials_of(new: NewOrganisation, api_url: str) -> Credentials:
    """Returns what a client of the new organisation needs."""
    return Credentials(new.organisation.id, new.admin_key, new.api_key, api_url)


def _update_url(path: Path, api_url: str) -> None:
    # The operator may have moved the file to a safer place. It is written even if the URL stays the same: by its time
    # whoever started this server sees that it is up.
    if path.exists():
        credentials = read_credentials(path)
        credentials.api_url = api_url
        write_credentials(path, credentials)
