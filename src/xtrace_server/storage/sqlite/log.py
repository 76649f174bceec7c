"""SQLite's write-ahead log: new pages wait there, and older versions of them stay in the file until it is written back.

`secure_delete` overwrites deleted data in the database's file. The log still contains it, from the transaction that
wrote it, until the log is emptied (sqlite.org/wal.html, "Checkpointing").
"""

import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

LONG_BYTES: Final = 4 * 2**20
"""From this length on, the log is written back every second."""
MOST_BYTES: Final = 16 * 2**20
"""How much the log may grow before a writer waits until it is written back."""
_PATIENCE_S: Final = 0.05
"""The maximum time for which emptying the log waits for readers of an older state; writers wait meanwhile."""
_FEW_PAGES: Final = 250
"""At most this many pages are written back while writers wait."""


def write_log_back(file: Path) -> None:
    """Writes a long log back, except for what readers of an older state need. Others read and write meanwhile.

    Does nothing if that is not possible now.
    """
    if log_bytes(file) >= LONG_BYTES:
        with suppress(sqlite3.Error), closing(_connected(file)) as connection:
            _write_back(connection)


class Backpressure:
    """Detects when the log has grown so much that the next writer should write it back first."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._seen = 0

    def is_due(self) -> bool:
        """Returns whether the log has grown by `MOST_BYTES` since this last returned True, or since it was emptied."""
        length = log_bytes(self._file)
        due = length >= self._seen + MOST_BYTES
        if due or length < self._seen:
            self._seen = length
        return due


def truncate_log(file: Path) -> bool:
    """Writes the log back and empties it; returns False if that is not possible now.

    A reader of an older state or a writer may prevent it, or a full or read-only disk.
    """
    if not log_bytes(file):
        return True
    with suppress(sqlite3.Error), closing(_connected(file)) as connection:
        # Most of the work is done before writers have to wait.
        if _write_back(connection) <= _FEW_PAGES:
            return not connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    return False


def log_bytes(file: Path) -> int:
    """Returns the length of the database's log."""
    try:
        return file.with_name(f"{file.name}-wal").stat().st_size
    except FileNotFoundError:
        return 0


def _write_back(connection: sqlite3.Connection) -> int:
    """Writes the log back while others read and write; returns the number of remaining pages."""
    _, in_log, written_back = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return int(in_log - written_back)


def _connected(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, timeout=_PATIENCE_S, isolation_level=None)
    connection.execute("PRAGMA synchronous = FULL").fetchall()
    return connection
