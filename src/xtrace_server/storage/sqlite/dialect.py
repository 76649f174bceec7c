"""SQLite as the service uses it: one connection that writes and several that read; each transaction is a snapshot.

In WAL mode, readers never wait for the writer. Writing transactions begin with BEGIN IMMEDIATE: they queue for the one
writing connection instead of failing halfway. `synchronous=FULL` makes an answered write survive a power failure;
`secure_delete` overwrites deleted data.
"""

import os
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Table, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, MissingGreenlet
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from xtrace_server.errors import ServiceError
from xtrace_server.metrics import Reading
from xtrace_server.storage.dialects import STATEMENTS, DatabaseUnusable, Places, Vacuumed
from xtrace_server.storage.sqlite import blocking
from xtrace_server.storage.sqlite import functions as functions  # compiles what SQLite calls differently
from xtrace_server.storage.sqlite.cursors import OneCallConnection
from xtrace_server.storage.sqlite.faults import fault
from xtrace_server.storage.sqlite.integrity import checked_versions
from xtrace_server.storage.sqlite.log import Backpressure, log_bytes, truncate_log, write_log_back
from xtrace_server.storage.sqlite.statements import SqliteStatements
from xtrace_server.storage.sqlite.vacuum import vacuum_database

BUSY_TIMEOUT_S: Final = 20

_PRAGMAS: Final = (
    f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA secure_delete = ON",
    "PRAGMA temp_store = MEMORY",
    # Otherwise, a commit that finds a long log would write all of it back while other writes wait; `log` does that.
    "PRAGMA wal_autocheckpoint = 0",
    "PRAGMA cache_size = -16384",
)
_SINGLE: Final = "xtrace_single"
"""The execution option of connections without transactions."""


class Sqlite:
    """A database in a file."""

    kind = "SQLite"
    is_shared = False
    places = Places(8, 1)

    def __init__(self, url: str) -> None:
        self._url = url
        self.file = Path(make_url(url).database or "")
        self._backpressure = Backpressure(self.file)

    @property
    def location(self) -> str:
        return str(self.file.parent)

    def exists(self) -> bool:
        return self.file.is_file()

    def checked_versions(self, known_versions: Collection[str], whole: bool) -> Collection[str]:
        if not self.exists() and (left := blocking.unfinished(self.file)):
            raise DatabaseUnusable(
                f"a restore or a copy to {self.location} is running or was interrupted: run it again, or remove "
                f"{left[0]} "
                "to start with a new, empty database"
            )
        return checked_versions(self.file, known_versions, whole)

    def cautions(self, changes_schema: bool) -> Sequence[str]:
        if self.exists() and not os.access(self.file, os.R_OK | os.W_OK):
            return [f"{self.file} cannot be written by this user: change its owner or its mode (0600)"]
        return []

    def prepare(self, folder: Path, known_versions: Collection[str], whole: bool) -> None:
        """Creates `folder` (mode 0700) and an empty file (0600) if they are missing.

        Does not create the file beside an unfinished draft.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.checked_versions(known_versions, whole)
        # SQLite creates the files of its log with the mode of the database file. Only a new file is opened here,
        # because closing a file drops all of this process's locks on it, including SQLite's.
        with suppress(FileExistsError):
            os.close(os.open(self.file, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))

    def reader(self, connections: int) -> AsyncEngine:
        return _engine(self._url, "BEGIN", connections)

    def single(self, reader: AsyncEngine) -> AsyncEngine:
        return reader.execution_options(**{_SINGLE: True})

    def writer(self, connections: int) -> AsyncEngine:
        return _engine(self._url, "BEGIN IMMEDIATE", connections)

    async def be_alone(self, connection: AsyncConnection) -> None:
        """Does nothing: every writing transaction is alone."""

    def fault(self, error: DBAPIError) -> ServiceError | None:
        return fault(error)

    def may_be_repeated(self, error: DBAPIError) -> bool:
        """Returns False: writing transactions run one after the other."""
        return False

    def sizes(self) -> Mapping[str, Reading]:
        return {"database_bytes": partial(_size, self.file), "database_log_bytes": partial(log_bytes, self.file)}

    def stored_bytes(self) -> int:
        return int(_size(self.file) + log_bytes(self.file))

    def keep_log_short(self) -> None:
        write_log_back(self.file)

    def log_grows(self) -> bool:
        return self._backpressure.is_due()

    def tidy(self) -> bool:
        return truncate_log(self.file)

    def vacuum(self) -> Vacuumed:
        return vacuum_database(self.file)

    def snapshot(self) -> AbstractContextManager[Connection]:
        return blocking.snapshot(self.file, BUSY_TIMEOUT_S)

    def draft(self) -> AbstractContextManager[Connection]:
        return blocking.draft(self.file, _PRAGMAS)

    def load_rows(self, connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
        blocking.load_rows(connection, table, rows)

    def next_keys(self, connection: Connection) -> Mapping[str, int]:
        return blocking.next_keys(connection)

    def set_next_key(self, connection: Connection, table: str, next_key: int) -> None:
        blocking.set_next_key(connection, table, next_key)


def _engine(url: str, begin: str, connections: int) -> AsyncEngine:
    # hide_parameters: bound values are customers' data, and errors end up in logs.
    engine = create_async_engine(
        url,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=BUSY_TIMEOUT_S,
        hide_parameters=True,
        execution_options={STATEMENTS: SqliteStatements()},
    )

    @event.listens_for(engine.sync_engine, "do_connect")
    def connect_by_calls(dialect: Any, _record: object, arguments: Any, settings: Any) -> OneCallConnection:
        return OneCallConnection(dialect.dbapi, dialect.connect(*arguments, **settings)._connection)

    @event.listens_for(engine.sync_engine, "connect")
    def connect(connection: Any, _record: object) -> None:
        # None: the driver begins no transactions by itself, the listener below does.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in _PRAGMAS:
            cursor.execute(pragma)
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin_transaction(connection: Connection) -> None:
        if not connection.get_execution_options().get(_SINGLE):
            connection.exec_driver_sql(begin)

    @event.listens_for(engine.sync_engine, "invalidate")
    def interrupt(connection: Any, _record: object, _error: BaseException | None) -> None:
        # Its task was cancelled at the deadline or because the server stops. Without this, closing the connection would
        # wait for the end of the statement.
        with suppress(StopIteration):
            connection.driver_connection.interrupt().send(None)  # sets a flag and awaits nothing
        # A closed connection keeps its locks while anything refers to its last statement.
        with suppress(sqlite3.Error, MissingGreenlet):
            connection.rollback()

    return engine


def _size(file: Path) -> float:
    return file.stat().st_size if file.exists() else 0
