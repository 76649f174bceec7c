"""Returns a database's unused space to the file system.

Deleted data is overwritten at once (`secure_delete`), but its pages stay in the file for reuse. VACUUM rewrites the
whole database without them. In WAL mode, it writes to the log, so searches continue and writes wait. The file itself
shrinks when the log is written back, which requires a moment without readers of an older state.
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from xtrace_server.storage.dialects import DatabaseUnusable, Vacuumed
from xtrace_server.storage.sqlite.log import log_bytes

PATIENCE_S = 20.0
"""The maximum time for which a vacuum waits for a writer."""


def vacuum_database(file: Path) -> Vacuumed:
    """Vacuums the database in the file, even while a server runs. An interruption loses nothing.

    Raises `DatabaseUnusable` if a writer keeps the database locked, the disk is full, or the file is not a database.
    """
    # SQLite writes a complete copy: the database's folder has room for it, and it stays on the same disk.
    os.environ.setdefault("SQLITE_TMPDIR", str(file.parent))
    before = file.stat().st_size + log_bytes(file)
    try:
        with closing(sqlite3.connect(file, timeout=PATIENCE_S, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = FULL").fetchall()
            connection.execute("VACUUM").fetchall()
            busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            now = file.stat().st_size + log_bytes(file)
    except sqlite3.DatabaseError as error:
        raise DatabaseUnusable(f"the database could not be vacuumed, and is unchanged: {error}") from None
    return Vacuumed(max(0, before - now), now, not busy)
