"""What the database refuses, in the service's words: a full disk, one that cannot be written, a lock held too long."""

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy.exc import DBAPIError

from xtrace_server.errors import ServiceError, StorageFull, StorageReadOnly, Unavailable

# The low byte of an extended result code is the primary one (sqlite.org/rescode.html).
_PRIMARY: Final = 0xFF


def translated(error: DBAPIError) -> ServiceError | None:
    """The answer to a request that met this error; None if it is a fault of the service or of its data."""
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


@contextmanager
def disk_faults() -> Iterator[None]:
    """Turns what the file system refuses into the same answers."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull from None
        if error.errno == errno.EROFS:
            raise StorageReadOnly from None
        raise
