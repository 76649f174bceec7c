"""Gives unused space of the database back to the file system.

What is deleted is overwritten at once (`secure_delete`), but its pages stay in the file to be used again. VACUUM writes
the whole database anew without them. In WAL mode it goes through the log, so searches go on beside it and writes wait;
the file itself shrinks when the log is written back, which needs a moment in which nobody reads an older state.
"""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from xtrace_server.storage.database import BUSY_TIMEOUT_S
from xtrace_server.storage.sqlite.integrity import DatabaseUnusable


@dataclass(frozen=True, slots=True)
class Vacuumed:
    """How a vacuum ended; bytes are those of the database and its log together."""

    bytes_given_back: int
    bytes_now: int
    complete: bool
    """False where readers kept the log from being written back: that happens by itself later."""


def vacuum_database(file: Path) -> Vacuumed:
    """Vacuums the database in the file, beside a running server or without one. Nothing is lost if it is stopped.

    Raises `DatabaseUnusable` if a writer does not let go in time, if the disk is full, or for a file that is no
    database.
    """
    before = _bytes_of(file)
    try:
        with closing(sqlite3.connect(file, timeout=BUSY_TIMEOUT_S, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = FULL").fetchall()
            connection.execute("VACUUM").fetchall()
            busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            now = _bytes_of(file)
    except sqlite3.DatabaseError as error:
        raise DatabaseUnusable(f"the database could not be vacuumed, and is as it was: {error}") from None
    return Vacuumed(max(0, before - now), now, not busy)


def _bytes_of(file: Path) -> int:
    log = file.with_name(f"{file.name}-wal")
    return file.stat().st_size + (log.stat().st_size if log.exists() else 0)
