"""Turns SQLite's errors into answers of the service: a full or read-only disk, a lock held too long."""

import sqlite3
from typing import Final

from sqlalchemy.exc import DBAPIError

from xtrace_server.errors import ServiceError, StorageFull, StorageReadOnly, Unavailable

# The low byte of an extended result code is the primary one (sqlite.org/rescode.html).
_PRIMARY: Final = 0xFF


def fault(error: DBAPIError) -> ServiceError | None:
    """Returns the answer to a request that failed with this error; None for a bug or damaged data."""
    code = getattr(error.orig, "sqlite_errorcode", None)
    match None if code is None else code & _PRIMARY:
        case sqlite3.SQLITE_FULL:
            return StorageFull()
        case sqlite3.SQLITE_READONLY:
            return StorageReadOnly()
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return Unavailable("the database is busy: try again")
        case sqlite3.SQLITE_IOERR | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_INTERRUPT:
            return Unavailable("the database cannot be reached: try again")
    return None
