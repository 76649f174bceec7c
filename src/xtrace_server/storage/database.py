"""Opens the database: one connection that writes, several that read, each transaction a snapshot.

SQLite runs in WAL mode, so readers never wait for the writer. Writing transactions begin with BEGIN
IMMEDIATE: they queue for the one writing connection instead of failing half way. `synchronous=FULL` makes an
answered write survive a power cut; `secure_delete` overwrites what is deleted.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError
from sqlalchemy import Connection, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DatabaseError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

BUSY_TIMEOUT_S = 20
READERS = 8

_PRAGMAS = (
    f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA secure_delete = ON",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA cache_size = -16384",
)


class DatabaseUnusable(Exception):
    """A file that is no database of this service, or of a newer version of it. Nothing was changed."""


class Database:
    """An open database. `read()` and `write()` give the connection of a transaction."""

    def __init__(self, url: str) -> None:
        self._readers = _engine(url, "BEGIN", READERS)
        self._writer = _engine(url, "BEGIN IMMEDIATE", 1)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A snapshot: everything read through it is of the same moment."""
        async with self._readers.connect() as connection:
            yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that commits when the block ends, and leaves nothing behind when it raises."""
        async with self._writer.begin() as connection:
            yield connection

    async def migrate(self) -> None:
        """Brings the tables to this version's schema. Raises `DatabaseUnusable`."""
        try:
            async with self.write() as connection:
                await connection.run_sync(_upgrade)
        except CommandError as error:
            raise DatabaseUnusable(f"the database was written by a newer version of XTrace ({error})") from None
        except DatabaseError as error:
            raise DatabaseUnusable(f"the database cannot be used: {error.orig}") from None

    async def close(self) -> None:
        await self._readers.dispose()
        await self._writer.dispose()


@asynccontextmanager
async def open_database(url: str, folder: Path) -> AsyncIterator[Database]:
    """The migrated database at the URL; makes `folder` (mode 0700) and the file (0600) if they are missing.

    Raises `DatabaseUnusable` and `OSError`.
    """
    await asyncio.to_thread(_make_private, folder, make_url(url).database)
    database = Database(url)
    try:
        await database.migrate()
        yield database
    finally:
        await database.close()


def now() -> str:
    """The time in UTC as ISO 8601, of fixed width, so that it sorts as text."""
    return format_time(datetime.now(UTC))


def format_time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


async def is_ready(connection: AsyncConnection) -> None:
    """Returns if the database answers; raises what SQLAlchemy raises otherwise."""
    await connection.execute(text("SELECT count(*) FROM organisation"))


def _engine(url: str, begin: str, connections: int) -> AsyncEngine:
    # hide_parameters: bound values are customers' data, and errors end up in logs.
    engine = create_async_engine(
        url,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=BUSY_TIMEOUT_S,
        hide_parameters=True,
    )

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
        connection.exec_driver_sql(begin)

    return engine


def _upgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _make_private(folder: Path, file: str | None) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if file:
        # SQLite gives the files of its log the mode of the database file.
        os.close(os.open(file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
