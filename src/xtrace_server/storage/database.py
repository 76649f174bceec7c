"""Opens the database: one connection that writes, several that read, each transaction a snapshot.

SQLite runs in WAL mode, so readers never wait for the writer. Writing transactions begin with BEGIN
IMMEDIATE: they queue for the one writing connection instead of failing half way. `synchronous=FULL` makes an
answered write survive a power cut; `secure_delete` overwrites what is deleted.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DatabaseError, DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from xtrace_server.deadline import hold_deadline
from xtrace_server.metrics import Metrics
from xtrace_server.storage.sqlite.integrity import DatabaseUnusable, check_database

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


class Database:
    """An open database. `read()` and `write()` give the connection of a transaction."""

    def __init__(self, url: str, metrics: Metrics | None = None) -> None:
        self._metrics = metrics or Metrics()
        self._readers = _engine(url, "BEGIN", READERS)
        self._writer = _engine(url, "BEGIN IMMEDIATE", 1)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A snapshot: everything read through it is of the same moment."""
        with self._counted("read"):
            async with self._readers.connect() as connection:
                try:
                    yield connection
                except asyncio.CancelledError:
                    # Whoever asked was told that it took too long: the statement shall not go on for nobody.
                    driver = (await connection.get_raw_connection()).driver_connection
                    if driver is not None:
                        await driver.interrupt()
                    raise

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that commits when the block ends, and leaves nothing behind when it raises."""
        with self._counted("write"):
            async with self._writer.begin() as connection:
                yield connection
                hold_deadline()

    async def migrate(self) -> None:
        """Brings the tables to this version's schema. Raises `DatabaseUnusable`."""
        try:
            async with self.write() as connection:
                await connection.run_sync(_upgrade)
        except DatabaseError as error:
            raise DatabaseUnusable(f"the database cannot be used: {error.orig}") from None

    @contextmanager
    def _counted(self, kind: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        except DBAPIError:
            self._metrics.database_errors.inc()
            raise
        finally:
            self._metrics.transactions.labels(kind).inc()
            self._metrics.transaction_seconds.labels(kind).observe(time.perf_counter() - began)

    async def close(self) -> None:
        await self._readers.dispose()
        await self._writer.dispose()


@asynccontextmanager
async def open_database(
    url: str, folder: Path, *, whole: bool = False, metrics: Metrics | None = None
) -> AsyncIterator[Database]:
    """The migrated database at the URL; makes `folder` (mode 0700) and the file (0600) if they are missing.

    `whole` looks for damage first, page by page. Raises `DatabaseUnusable` and `OSError`.
    """
    file = make_url(url).database
    if file:
        await asyncio.to_thread(_prepare_file, folder, Path(file), whole)
    database = Database(url, metrics)
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
    config = _migrations()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _migrations() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    return config


def _prepare_file(folder: Path, file: Path, whole: bool) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    known = {script.revision for script in ScriptDirectory.from_config(_migrations()).walk_revisions()}
    check_database(file, known, whole)
    # SQLite gives the files of its log the mode of the database file.
    # Only a new file: closing one gives up every lock that this process holds on it, SQLite's too.
    with suppress(FileExistsError):
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
