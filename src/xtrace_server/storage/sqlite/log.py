"""SQLite's write-ahead log: new pages wait there, and the pages before them stay as they were until it is written back.

`secure_delete` overwrites what is deleted in the database's file. The log still has it, from the transaction that wrote
it, until the log is emptied (sqlite.org/wal.html, "Checkpointing").
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

_PATIENCE_S: Final = 0.05
"""How long it waits for readers of an older state; writers wait as long."""


def truncate_log(file: Path) -> bool:
    """Writes the log back and empties it; returns False if that is not possible now.

    A reader of an older state is in the way, or a writer, or the disk is full or cannot be written.
    """
    log = file.with_name(f"{file.name}-wal")
    if not (log.exists() and log.stat().st_size):
        return True
    with closing(sqlite3.connect(file, timeout=_PATIENCE_S, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = FULL").fetchall()
        try:
            # Without waiting for anybody: most of the work is done when it comes to the locks.
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        except sqlite3.OperationalError:
            return False
    return not busy
