"""An open database of any kind: counted transactions that read or write."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeAlias

from sqlalchemy import text
from sqlalchemy.exc import DatabaseError, DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection

from xtrace_server.deadline import hold_deadline
from xtrace_server.errors import ServiceError, Unavailable
from xtrace_server.metrics import Metrics, Reading
from xtrace_server.storage import slow_statements
from xtrace_server.storage.dialects import DatabaseUnusable, Options, dialect_of
from xtrace_server.storage.folder_lock import FolderInUse, no_server_running
from xtrace_server.storage.migrating import is_current, known_versions, upgrade
from xtrace_server.storage.slow_statements import SlowStatements
from xtrace_server.storage.turns import Turns
from xtrace_server.traces import Traces

Connection: TypeAlias = AsyncConnection
"""The connection of an open transaction, which every query takes."""
StorageError: TypeAlias = SQLAlchemyError
"""The errors between the service and its database."""


LOOK_UPS: Final = 2
"""Connections for the service's own short queries: whose key this is, whether the database answers."""
PATIENCE_S: Final = 20.0
"""The maximum time for which a transaction waits to begin."""
THE_SERVICE: Final = ""
"""The owner of the service's own work."""


class Database:
    """An open database. `read` and `write` open a transaction and return its connection.

    Organisations take turns. The service's own queries do not wait for any of them.
    """

    def __init__(
        self,
        url: str,
        metrics: Metrics | None = None,
        slow_statement_s: float = math.inf,
        options: Options | None = None,
        traces: Traces | None = None,
    ) -> None:
        self._metrics = metrics or Metrics()
        self._traces = traces
        self._dialect = dialect_of(url, options)
        readers, writers = self._dialect.places
        self._reader, self._writer = self._dialect.reader(readers), self._dialect.writer(writers)
        self._look_ups = self._dialect.reader(LOOK_UPS)
        self._single_reader = self._dialect.single(self._reader)
        self._single_look_ups = self._dialect.single(self._look_ups)
        self.slow_statements = SlowStatements()
        for engine in (self._reader, self._writer, self._look_ups):
            slow_statements.watch(engine, slow_statement_s, self._note_slow)
            if traces is not None:
                from xtrace_server.storage import statement_spans

                statement_spans.watch(engine, traces)
        # If there are several places, one organisation has at most half of them.
        self._read_turns = Turns(readers, max(readers // 2, 1), PATIENCE_S)
        self._write_turns = Turns(writers, max(writers // 2, 1), PATIENCE_S)

    @asynccontextmanager
    async def read(self, organisation_id: str, *, single: bool = False) -> AsyncIterator[Connection]:
        """A snapshot for an organisation: everything read through it is from the same moment.

        `single` is for a single statement, which needs no transaction around it.
        """
        reader = self._single_reader if single else self._reader
        with self._counted("read"):
            async with self._read_turns.turn(organisation_id), reader.connect() as connection:
                yield connection

    @asynccontextmanager
    async def look_up(self, *, single: bool = False) -> AsyncIterator[Connection]:
        """The same for a query of the service itself, which must be short."""
        with self._counted("read"):
            async with (self._single_look_ups if single else self._look_ups).connect() as connection:
                yield connection

    @asynccontextmanager
    async def write(
        self, organisation_id: str = THE_SERVICE, *, urgent: bool = False, alone: bool = False
    ) -> AsyncIterator[Connection]:
        """A transaction that commits when the block ends, and is rolled back if it raises.

        `alone` excludes all other transactions opened with `alone`, on any server.
        """
        with self._counted("write"):
            async with self._write_turns.turn(organisation_id, urgent=urgent):
                if self._dialect.log_grows():
                    await self.keep_log_short()
                async with self._writer.begin() as connection:
                    if alone:
                        await self._dialect.be_alone(connection)
                    yield connection
                    hold_deadline()

    async def migrate(self, folder: Path, allowed: bool | None, *, back_up_first: bool) -> None:
        """Migrates the tables to this version's schema, if `open_database` allows it.

        Raises `DatabaseUnusable` and `OSError`.
        """
        try:
            async with self.look_up() as connection:
                if await connection.run_sync(is_current):
                    return
            with self._may_migrate(folder, allowed):
                if back_up_first:
                    from xtrace_server.storage.before_migration import back_up_before_migration

                    await asyncio.to_thread(back_up_before_migration, self._dialect, folder)
                async with self.write(alone=True) as connection:
                    # Another server may have migrated it while this one waited.
                    if not await connection.run_sync(is_current):
                        await connection.run_sync(upgrade)
        except FolderInUse as error:
            raise DatabaseUnusable(f"the database has the schema of another version, and {error}") from None
        except DatabaseError as error:
            raise DatabaseUnusable(f"the database cannot be used: {reason(error)}") from None

    def _may_migrate(self, folder: Path, allowed: bool | None) -> AbstractContextManager[None]:
        if allowed or self._dialect.is_shared:  # a shared database is migrated in a transaction that is alone
            return nullcontext()
        if allowed is False:
            raise FolderInUse(f"a server runs on {folder}: stop it first")
        return no_server_running(folder)

    async def check_ready(self) -> None:
        """Returns if the database answers; otherwise raises what SQLAlchemy raises."""
        async with self.look_up() as connection:
            await connection.execute(text("SELECT count(*) FROM organisation"))

    @property
    def kind(self) -> str:
        """The database's name for people: `SQLite` or `PostgreSQL`."""
        return self._dialect.kind

    def fault(self, error: StorageError) -> ServiceError | None:
        """Returns the answer to a request that failed with this error; None for a bug or damaged data."""
        if isinstance(error, PoolTimeout):
            return Unavailable("the database is busy: try again")
        return self._dialect.fault(error) if isinstance(error, DBAPIError) else None

    def may_be_repeated(self, error: StorageError) -> bool:
        """Returns whether a transaction failed only because of a concurrent one."""
        return isinstance(error, DBAPIError) and self._dialect.may_be_repeated(error)

    def sizes(self) -> Mapping[str, Reading]:
        """Returns readings of the database, by the names of `Metrics.watch_database`."""
        return self._dialect.sizes()

    async def keep_log_short(self) -> None:
        """Shortens the database's log while others read and write; call it every second."""
        await asyncio.to_thread(self._dialect.keep_log_short)

    async def tidy(self) -> bool:
        """Removes deleted and replaced data from the database's files; returns whether nothing of it is left.

        Some may be left while a snapshot that shows it is open.
        """
        return await asyncio.to_thread(self._dialect.tidy)

    def _note_slow(self, statement: str, took_s: float) -> None:
        self._metrics.slow_statements.inc()
        self.slow_statements.add(statement, took_s)

    @contextmanager
    def _counted(self, kind: str) -> Iterator[None]:
        began = time.perf_counter()
        span = None if self._traces is None else self._traces.begin(f"transaction {kind}", {})
        try:
            yield
        except DBAPIError:
            self._metrics.database_errors.inc()
            raise
        finally:
            self._metrics.transactions.labels(kind).inc()
            self._metrics.transaction_seconds.labels(kind).observe(time.perf_counter() - began)
            if span is not None:
                span.end()

    async def close(self) -> None:
        await self._look_ups.dispose()
        await self._reader.dispose()
        await self._writer.dispose()


@asynccontextmanager
async def open_database(
    url: str,
    folder: Path,
    *,
    whole: bool = False,
    metrics: Metrics | None = None,
    may_migrate: bool | None = None,
    back_up_first: bool = True,
    slow_statement_s: float = math.inf,
    options: Options | None = None,
    traces: Traces | None = None,
) -> AsyncIterator[Database]:
    """Opens the database at the URL, created and migrated if needed; `folder` is the server's data folder.

    `whole` first checks every page for damage. `may_migrate` says whether the schema may be changed: True for the only
    server on the folder, False if there are others, and None for a command, which may if no server runs on the folder.
    `back_up_first` writes an archive of an older database to the folder before its schema is changed. Statements that
    take `slow_statement_s` or longer are logged. Raises `DatabaseUnusable` and `OSError`.
    """
    await asyncio.to_thread(_prepare, url, folder, whole)
    database = Database(url, metrics, slow_statement_s, options, traces)
    try:
        await database.migrate(folder, may_migrate, back_up_first=back_up_first)
        yield database
    finally:
        await database.close()


def reason(error: StorageError) -> str:
    """Returns the database's own message, without the statement and its values."""
    return str(error.orig) if isinstance(error, DBAPIError) else "no connection became free in time"


def now() -> str:
    """Returns the time in UTC as ISO 8601 of fixed width, which sorts correctly as text."""
    return format_time(datetime.now(UTC))


def format_time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _prepare(url: str, folder: Path, whole: bool) -> None:
    dialect_of(url).prepare(folder, known_versions(), whole)
