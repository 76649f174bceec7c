"""SQLite for commands that read or write a whole database: blocking connections that return rows one by one."""

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from sqlalchemy import Connection, NullPool, Table, create_engine, event

from xtrace_core.files import publish_file
from xtrace_server.storage.dialects import DatabaseUnusable

_DRAFT: Final = ".restoring."
_BESIDE: Final = ("", "-wal", "-shm", "-journal")
"""The suffixes of a database's files. A stale log would be taken for the log of a new database."""


@contextmanager
def snapshot(file: Path, patience_s: float) -> Iterator[Connection]:
    """Yields a snapshot of the database in the file. Raises SQLAlchemy's errors."""
    with _transaction(file, patience_s, ["PRAGMA query_only = ON"]) as connection:
        connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar()  # from here on, nothing newer is seen
        yield connection


@contextmanager
def draft(file: Path, pragmas: Sequence[str]) -> Iterator[Connection]:
    """Yields a new database, which appears as the file when the block ends. Raises `DatabaseUnusable` and `OSError`.

    `pragmas` are those of the service's connections.
    """
    for ending in _BESIDE:
        existing = file.with_name(file.name + ending)
        if existing.exists():
            raise DatabaseUnusable(f"{existing} exists: name a folder without a database")
    for left in unfinished(file):
        shutil.rmtree(left)
    folder = Path(tempfile.mkdtemp(dir=file.parent, prefix=_DRAFT))  # mode 0700
    unpublished = folder / file.name
    # Until it is published, a crash costs nothing: neither journal nor synchronisation is needed.
    faster = ("PRAGMA journal_mode = OFF", "PRAGMA synchronous = OFF", "PRAGMA cache_size = -65536")
    try:
        unpublished.touch(0o600)
        with _transaction(unpublished, 0, [*pragmas, *faster]) as connection:
            yield connection
        publish_file(unpublished, file)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def unfinished(file: Path) -> list[Path]:
    """Returns the remains of killed drafts of the file, and drafts that are being written."""
    return sorted(file.parent.glob(f"{_DRAFT}*"))


def load_rows(connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Inserts rows, with a value for each column of the table."""
    names = ", ".join(f'"{column.name}"' for column in table.columns)
    places = ", ".join("?" for _ in table.columns)
    connection.exec_driver_sql(f'INSERT INTO "{table.name}" ({names}) VALUES ({places})', list(rows))  # noqa: S608 - names of tables


def next_keys(connection: Connection) -> Mapping[str, int]:
    """Returns the next number for each table that has had rows and whose rows SQLite numbers."""
    if not connection.exec_driver_sql("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'").scalar():
        return {}
    return {name: last + 1 for name, last in connection.exec_driver_sql("SELECT name, seq FROM sqlite_sequence")}


def set_next_key(connection: Connection, table: str, next_key: int) -> None:
    """Makes SQLite number the table's next row `next_key`, or higher than all existing rows."""
    last = max(next_key, next_keys(connection).get(table, 1)) - 1
    connection.exec_driver_sql("DELETE FROM sqlite_sequence WHERE name = ?", (table,))
    connection.exec_driver_sql("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table, last))


@contextmanager
def _transaction(file: Path, patience_s: float, pragmas: Sequence[str]) -> Iterator[Connection]:
    def connect() -> sqlite3.Connection:
        # None: the driver begins no transactions by itself, the listener below does.
        address = f"file:{quote(str(file))}?mode=rw"  # never creates the file
        connection = sqlite3.connect(address, uri=True, timeout=patience_s, isolation_level=None)
        for pragma in pragmas:
            connection.execute(pragma).fetchall()
        return connection

    # hide_parameters: bound values are customers' data, and errors end up on screens.
    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool, hide_parameters=True)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    with engine.begin() as connection:
        yield connection
