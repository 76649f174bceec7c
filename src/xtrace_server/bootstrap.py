"""The first start: creates an organisation with its keys and the operator key, in files only the operator can read."""

import asyncio
import errno
import logging
from collections.abc import Callable
from pathlib import Path

import msgspec

from xtrace_core.files import set_aside
from xtrace_server.credentials import (
    CREDENTIALS_FILE,
    OPERATOR_FILE,
    Credentials,
    OperatorCredentials,
    read_credentials,
    read_operator_credentials,
    write_credentials,
)
from xtrace_server.operations import operator_key, organisations
from xtrace_server.operations.organisations import NewOrganisation
from xtrace_server.settings import Settings
from xtrace_server.storage.database import Database
from xtrace_server.storage.dialects import DatabaseUnusable, dialect_of

_log = logging.getLogger("xtrace")

FIRST_ORGANISATION = "default"


class CredentialsUnusable(Exception):
    """A file that should contain keys contains something else; it was not changed."""


async def prepare(database: Database, folder: Path, api_url: str, *, operator_api: bool) -> list[Path]:
    """Creates the first organisation if none exists and, with `operator_api`, the operator key; returns their files.

    The files are on the disk before the database knows the keys, so an interruption cannot lose the keys. In existing
    files, `api_url` is updated.
    """
    written = []

    def write(name: str, credentials: Credentials | OperatorCredentials) -> None:
        path = folder / name
        if path.exists():
            set_aside(path)
        write_credentials(path, credentials)
        written.append(path)

    def deliver(new: NewOrganisation) -> None:
        write(CREDENTIALS_FILE, credentials_of(new, api_url))

    def deliver_operator_key(key: str) -> None:
        write(OPERATOR_FILE, OperatorCredentials(key, api_url))

    if not await organisations.create_first(database, FIRST_ORGANISATION, deliver):
        await asyncio.to_thread(_update_url, folder / CREDENTIALS_FILE, read_credentials, api_url)
    if not (operator_api and await operator_key.create_first(database, deliver_operator_key)):
        await asyncio.to_thread(_update_url, folder / OPERATOR_FILE, read_operator_credentials, api_url)
    return written


def check_not_lost(settings: Settings) -> None:
    """Raises `DatabaseUnusable` if the data folder has credentials but their database is missing."""
    database, credentials = dialect_of(settings.resolved_database_url), settings.data / CREDENTIALS_FILE
    if credentials.exists() and not database.exists() and not settings.new_database:
        raise DatabaseUnusable(
            f"{credentials} exists and no database was found in {database.location}: is a volume not mounted? Use "
            "--new-database to start with a new, empty database; the credentials are then kept under another name"
        )


def credentials_of(new: NewOrganisation, api_url: str) -> Credentials:
    """Returns what a client of the new organisation needs."""
    return Credentials(new.organisation.id, new.admin_key, new.api_key, api_url)


def _update_url(
    path: Path, read: Callable[[Path], Credentials] | Callable[[Path], OperatorCredentials], api_url: str
) -> None:
    # The operator may have moved the file to a safer place. It is written even if the URL is unchanged: its time tells
    # a program that started this server that it is up. The server also starts on a full disk, to allow deletions.
    if path.exists():
        try:
            credentials = read(path)
        except msgspec.DecodeError:
            raise CredentialsUnusable(f"{path} does not contain credentials") from None
        before, credentials.api_url = credentials.api_url, api_url
        try:
            write_credentials(path, credentials)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            _log.warning("%s still says %s, because the disk is full; this server is %s", path, before, api_url)
