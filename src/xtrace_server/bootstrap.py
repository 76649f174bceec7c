"""The first start: an organisation with its keys, written where only the operator reads them."""

import asyncio
import errno
import logging
from pathlib import Path

from xtrace_core.files import set_aside
from xtrace_server.credentials import CREDENTIALS_FILE, Credentials, read_credentials, write_credentials
from xtrace_server.operations import organisations
from xtrace_server.operations.organisations import NewOrganisation
from xtrace_server.settings import Settings
from xtrace_server.storage.database import Database
from xtrace_server.storage.dialects import DatabaseUnusable, dialect_of

_log = logging.getLogger("xtrace")

FIRST_ORGANISATION = "default"


async def prepare(database: Database, folder: Path, api_url: str) -> bool:
    """Creates the first organisation if there is none, and updates `api_url` in its file; returns whether it did.

    The file is on the disk before the database knows the keys, so an interruption cannot lose the keys.
    """
    path = folder / CREDENTIALS_FILE

    def deliver(new: NewOrganisation) -> None:
        if path.exists():
            set_aside(path)
        write_credentials(path, credentials_of(new, api_url))

    first = await organisations.create_first(database, FIRST_ORGANISATION, deliver)
    if not first:
        await asyncio.to_thread(_update_url, path, api_url)
    return first


def expect_database(settings: Settings) -> None:
    """Raises `DatabaseUnusable` if the database is missing that the credentials in the data folder are for."""
    database, credentials = dialect_of(settings.resolved_database_url), settings.data / CREDENTIALS_FILE
    if credentials.exists() and not database.exists() and not settings.new_database:
        raise DatabaseUnusable(
            f"{credentials} exists and no database was found in {database.location}: is a volume not mounted? To start "
            "with a new, empty database give --new-database; the credentials are then kept under another name"
        )


def credentials_of(new: NewOrganisation, api_url: str) -> Credentials:
    """Returns what a client of the new organisation needs."""
    return Credentials(new.organisation.id, new.admin_key, new.api_key, api_url)


def _update_url(path: Path, api_url: str) -> None:
    # The operator may have moved the file to a safer place. It is written even if the URL stays the same: by its time
    # a program that started this server sees that it is up. The server also starts on a full disk, to allow deletions.
    if path.exists():
        credentials = read_credentials(path)
        before, credentials.api_url = credentials.api_url, api_url
        try:
            write_credentials(path, credentials)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            _log.warning("%s says %s still, because the disk is full; this server is %s", path, before, api_url)
