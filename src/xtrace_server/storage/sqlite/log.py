"""SQLite's write-ahead log: new pages wait there, and the pages before them stay as they were until it is written back.

`secure_delete` overwrites what is deleted in the database's file. The log still has it, from the transaction that wrote
it, until the log is emptied (sqlite.org/wal.html, "Checkpointing").
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

LONG_BYTES: Final = 4 * 2**20
"""From this length on the log is written back every second."""
_PATIENCE_S: Final = 0.05
"""How long emptying the log waits for readers of an older state; writers wait as long."""
_FEW_PAGES: Final = 250
"""So few pages are written back while writers wait."""


def write_log_back(file: Path) -> None:
    """Writes a long log back as far as no reader of an older state needs it. Nobody waits for this."""
    if _length(file) >= LONG_BYTES:
        with closing(_connected(file)) as connection:
            _written_back(connection)


def truncate_log(file: Path) -> bool:
    """Writes the log back and empties it; returns False if that is not possible now.

    A reader of an older state is in the way, or a writer, or the disk is full or cannot be written.
    """
    if not _length(file):
        return True
    with closing(_connected(file)) as connection:
        # Most of the work is done when writers begin to wait.
        if not _written_back(connection):
            return False
        try:
            busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        except sqlite3.OperationalError:
            return False
    return not busy


def _written_back(connection: sqlite3.Connection) -> bool:
    """Writes the log back while others read and write; returns whether hardly anything is left."""
    try:
        _, in_log, written_back = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    except sqlite3.OperationalError:
        return False
    return bool(in_log - written_back <= _FEW_PAGES)


def _connected(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, timeout=_PATIENCE_S, isolation_level=None)
    connection.execute("PRAGMA synchronous = FULL").fetchall()
    return connection


def _length(file: Path) -> int:
    log = file.with_name(f"{file.name}-wal")
    return log.stat().st_size if log.exists() else 0
