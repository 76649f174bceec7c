"""Checks a file before the service touches it: is it an XTrace database, undamaged, of a known version, and unused?

The file is opened read-only, so a rejected file stays unchanged: not even its journal mode changes.
"""

import sqlite3
from collections.abc import Collection
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import quote

from xtrace_server.storage.dialects import DatabaseUnusable
from xtrace_server.storage.sqlite.log import log_bytes

_PATIENCE_S: Final = 5.0
CHECKED_WHOLE_BYTES: Final = 2**30
"""Up to this size, every page is checked, which takes about a second; beyond it, only the schema and the length."""


def checked_versions(file: Path, known_versions: Collection[str], whole: bool) -> Collection[str]:
    """Checks a database, and returns the versions of its schema: none for a missing or empty file.

    `whole` also checks its pages. Raises `DatabaseUnusable` with one sentence if it is not sound.
    """
    if not file.exists() or file.stat().st_size == 0:
        return ()
    # Never open it as a plain file: closing that would drop the locks of all connections that this process has to it
    # (SQLite, "How To Corrupt An SQLite Database File", section 2.2).
    address = f"file:{quote(str(file))}?mode=ro"
    try:
        with closing(sqlite3.connect(address, uri=True, timeout=_PATIENCE_S)) as connection:
            versions = _versions_in(file, connection, known_versions)
            if whole:
                _check_pages(file, connection)
            return versions
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise DatabaseUnusable(f"{file} is locked by another process: stop that one first") from None
        raise DatabaseUnusable(f"{file} cannot be used: {error}") from None
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_NOTADB:
            raise DatabaseUnusable(f"{file} cannot be used: the file is not a database") from None
        raise DatabaseUnusable(f"{file} is damaged ({error}): restore it from a backup") from None


def _versions_in(file: Path, connection: sqlite3.Connection, known: Collection[str]) -> Collection[str]:
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables:
        return ()
    if "alembic_version" not in tables:
        raise DatabaseUnusable(f"{file} cannot be used: it is a database of another program")
    versions = [version for (version,) in connection.execute("SELECT version_num FROM alembic_version")]
    if versions and not set(versions) <= set(known):
        raise DatabaseUnusable(f"{file} was written by a newer version of XTrace or by another program")
    return versions


def _check_pages(file: Path, connection: sqlite3.Connection) -> None:
    pages, size = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    # Newer pages may still be in the log, and the count includes them.
    if not log_bytes(file) and pages * size > file.stat().st_size:
        raise DatabaseUnusable(f"{file} is damaged (its end is missing): restore it from a backup")
    if pages * size <= CHECKED_WHOLE_BYTES:
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise DatabaseUnusable(f"{file} is damaged ({' '.join(found.split())}): restore it from a backup")
