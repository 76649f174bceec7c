"""PostgreSQL as the service uses it: read-only snapshots, and transactions that lock the rows that they concern.

A snapshot is a REPEATABLE READ transaction. Writing transactions are READ COMMITTED: each statement sees what is
committed by then, and rows on which a decision depends are locked first (`with_for_update` in the queries).
"""

import select
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import psycopg
import sqlalchemy as sa
from sqlalchemy import URL, Connection, NullPool, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, DisconnectionError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from xtrace_server.errors import ServiceError
from xtrace_server.metrics import Reading
from xtrace_server.storage.dialects import STATEMENTS, DatabaseUnusable, Options, Places, Vacuumed
from xtrace_server.storage.postgres import blocking
from xtrace_server.storage.postgres import functions as functions  # compiles what PostgreSQL calls differently
from xtrace_server.storage.postgres.cautions import cautions, unverified
from xtrace_server.storage.postgres.copying import load_rows
from xtrace_server.storage.postgres.faults import fault, hide_values, may_be_repeated
from xtrace_server.storage.postgres.statements import PostgresStatements

LOCK_TIMEOUT_S: Final = 20
"""The maximum wait of a statement for a lock: the same as a transaction's wait to begin."""
IDLE_TIMEOUT_S: Final = 60
"""The time after which PostgreSQL ends an idle transaction, whose server may be gone while it holds locks."""
_OLDEST: Final = 130000
_ALONE: Final = 0x7874726163650001
"""The number of the advisory lock."""
_REACHING: Final[Mapping[str, Any]] = {
    "connect_timeout": 10,
    "application_name": "xtrace",
    "client_encoding": "UTF8",
    # A database that disappears silently is noticed within half a minute, instead of after hours.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""The defaults for libpq; the URL overrides them."""


class Postgres:
    """A database of a PostgreSQL server."""

    kind = "PostgreSQL"
    is_shared = True

    def __init__(self, url: str, options: Options) -> None:
        self._url = _parsed(url)
        self._options = options
        writers = max((options.connections - 2) // 3, 1)
        self.places = Places(options.connections - 2 - writers, writers)

    @property
    def location(self) -> str:
        host = self._url.query.get("host", self._url.host or "the default host")
        hosts = host if isinstance(host, str) else ", ".join(host)
        return f"the PostgreSQL database {self._url.database or 'of the default name'} on {hosts}"

    def exists(self) -> bool:
        with self._blocking() as connection:
            return blocking.has_tables(connection)

    def checked_versions(self, known_versions: Collection[str], whole: bool) -> Collection[str]:
        with self._blocking() as connection:
            return _checked_versions(connection, self.location, known_versions)

    def cautions(self, changes_schema: bool) -> Sequence[str]:
        with self._blocking() as connection:
            found = list(cautions(connection, self._options.connections, changes_schema))
        return [f"{self.location} {caution}" for caution in [*found, *unverified(self._url)]]

    def prepare(self, folder: Path, known_versions: Collection[str], whole: bool) -> None:
        """Creates `folder` (mode 0700) if it is missing; the database itself must exist."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.checked_versions(known_versions, whole)

    def reader(self, connections: int) -> AsyncEngine:
        return self._engine(connections, "REPEATABLE READ", read_only=True)

    def single(self, reader: AsyncEngine) -> AsyncEngine:
        return reader.execution_options(isolation_level="AUTOCOMMIT")

    def writer(self, connections: int) -> AsyncEngine:
        return self._engine(connections, "READ COMMITTED", read_only=False)

    async def be_alone(self, connection: AsyncConnection) -> None:
        """Also removes the time limit of statements, because a migration may take long."""
        await connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        await connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
        await connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ALONE})")

    def fault(self, error: DBAPIError) -> ServiceError | None:
        return fault(error)

    def may_be_repeated(self, error: DBAPIError) -> bool:
        return may_be_repeated(error)

    def sizes(self) -> Mapping[str, Reading]:
        """Returns nothing, because a reading must not wait for a network. PostgreSQL has its own exporters."""
        return {}

    def stored_bytes(self) -> int:
        with self._blocking() as connection:
            return int(connection.exec_driver_sql("SELECT pg_database_size(current_database())").scalar_one())

    def keep_log_short(self) -> None:
        """PostgreSQL does that itself."""

    def log_grows(self) -> bool:
        """Its checkpoints keep the log short."""
        return False

    def tidy(self) -> bool:
        """PostgreSQL does that itself: autovacuum, and its checkpoints."""
        return True

    def vacuum(self) -> Vacuumed:
        raise DatabaseUnusable(
            "PostgreSQL reuses the space of deleted rows itself (autovacuum); to return it to the disk, run VACUUM "
            "FULL in psql while the servers are stopped"
        )

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        with self._blocking("REPEATABLE READ") as connection:
            yield connection

    @contextmanager
    def draft(self) -> Iterator[Connection]:
        """The draft appears when its transaction commits; until then, the mark shows that it is incomplete."""
        with self._alone_and_empty() as connection:
            blocking.mark_unfinished(connection)
        try:
            with self._alone_and_empty() as connection:
                blocking.remove_mark(connection)  # others see this together with the draft
                yield connection
                connection.exec_driver_sql("ANALYZE")  # plans of the first queries depend on it
        except BaseException:
            with suppress(DatabaseUnusable, SQLAlchemyError), self._alone_and_empty() as connection:
                blocking.remove_mark(connection)
            raise

    @contextmanager
    def _alone_and_empty(self) -> Iterator[Connection]:
        with self._blocking() as connection:
            _checked_versions(connection, self.location, ())
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ALONE})")
            if blocking.has_tables(connection):
                raise DatabaseUnusable(f"a database exists in {self.location}: name another, empty one")
            yield connection

    def load_rows(self, connection: Connection, table: sa.Table, rows: Sequence[tuple[Any, ...]]) -> None:
        load_rows(connection, table, rows)

    def next_keys(self, connection: Connection) -> Mapping[str, int]:
        return blocking.next_keys(connection)

    def set_next_key(self, connection: Connection, table: str, next_key: int) -> None:
        blocking.set_next_key(connection, table, next_key)

    def _engine(self, connections: int, isolation: str, *, read_only: bool) -> AsyncEngine:
        timeouts = {
            "statement_timeout": f"{self._options.statement_timeout_s:g}s",
            "lock_timeout": f"{LOCK_TIMEOUT_S}s",
            "idle_in_transaction_session_timeout": f"{IDLE_TIMEOUT_S}s",
        }
        # hide_parameters: bound values are customers' data, and errors end up in logs.
        engine = create_async_engine(
            self._url,
            pool_size=connections,
            max_overflow=0,
            pool_timeout=LOCK_TIMEOUT_S,
            hide_parameters=True,
            isolation_level=isolation,
            execution_options={"postgresql_readonly": read_only, STATEMENTS: PostgresStatements()},
            connect_args=self._connect_args(timeouts),
            use_native_hstore=False,
        )
        event.listen(engine.sync_engine, "handle_error", hide_values)
        event.listen(engine.sync_engine, "connect", _use_own_cursors)
        event.listen(engine.sync_engine, "checkout", partial(_check_whole, engine.sync_engine.dialect))
        return engine

    def _connect_args(self, settings: Mapping[str, str]) -> dict[str, Any]:
        options = self._url.query.get("options", "")
        given = [options] if isinstance(options, str) else list(options)
        ours = [f"-c {name}={value}" for name, value in settings.items()]
        # Unprepared statements are planned with their values, so that partial indexes are used.
        arguments: dict[str, Any] = {"prepare_threshold": None, "options": " ".join([*ours, *given]).strip()}
        return arguments | {name: value for name, value in _REACHING.items() if name not in self._url.query}

    @contextmanager
    def _blocking(self, isolation: str = "READ COMMITTED") -> Iterator[Connection]:
        """A transaction of a command or a start. Raises `DatabaseUnusable` if the database cannot be reached."""
        engine = sa.create_engine(
            self._url,
            poolclass=NullPool,
            hide_parameters=True,
            isolation_level=isolation,
            connect_args=self._connect_args({}),
            use_native_hstore=False,
        )
        event.listen(engine, "handle_error", hide_values)
        try:
            connection = engine.connect()
        except SQLAlchemyError as error:
            raise DatabaseUnusable(f"{self.location} cannot be reached: {_words(error)}") from None
        with connection, connection.begin():
            yield connection


_Cursor: Final[Any] = type("_Cursor", (psycopg.AsyncServerCursor,), {"__del__": lambda _cursor: None})
"""A cursor that may stay open without a warning: when a request is cancelled, the transaction's end closes it."""


def _use_own_cursors(connection: Any, _record: object) -> None:
    connection.driver_connection.server_cursor_factory = _Cursor


def _check_whole(dialect: sa.Dialect, connection: Any, _record: object, _proxy: object) -> None:
    """Checks whether PostgreSQL has closed an idle connection, so that after a restart of PostgreSQL only running
    requests fail. Raises what makes the pool use another connection.
    """
    try:
        # No data is expected: if some has arrived, it is the end or a notice. So a query is almost never needed.
        whole = not _has_data(connection.driver_connection.pgconn.socket) or dialect.do_ping(connection)
    except psycopg.Error:
        whole = False
    if not whole:
        raise DisconnectionError


def _has_data(descriptor: int) -> bool:
    if hasattr(select, "poll"):  # unlike `select`, it takes descriptors of any number
        arrived = select.poll()
        arrived.register(descriptor, select.POLLIN)
        return bool(arrived.poll(0))
    return bool(select.select([descriptor], [], [], 0)[0])


def _parsed(url: str) -> URL:
    """Returns the URL with the driver. Raises `ValueError`."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ValueError("expected a URL such as postgresql://user@host/database") from None
    return parsed.set(drivername="postgresql+psycopg")


def _checked_versions(connection: Connection, location: str, known: Collection[str]) -> Collection[str]:
    """Returns the versions of its schema. Raises `DatabaseUnusable` for a database that the service must not touch; an
    empty `known` accepts any version.
    """
    number = int(connection.exec_driver_sql("SHOW server_version_num").scalar_one())
    if number < _OLDEST:
        raise DatabaseUnusable(f"{location} is of version {number // 10000}, expected 13 or newer")
    if (encoding := connection.exec_driver_sql("SHOW server_encoding").scalar_one()) != "UTF8":
        raise DatabaseUnusable(f"{location} has the encoding {encoding}, expected UTF8: create it WITH ENCODING 'UTF8'")
    if not (known and blocking.has_tables(connection)):
        if known and blocking.is_unfinished(connection):
            raise DatabaseUnusable(
                f"a restore or a copy to {location} is running or was interrupted: run it again, or drop its table "
                f"{blocking.MARK} to start with a new, empty database"
            )
        return ()
    versions = set(connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalars())
    if not versions <= set(known):
        raise DatabaseUnusable(f"{location} was written by a newer version of XTrace or by another program")
    return versions


def _words(error: SQLAlchemyError) -> str:
    """Returns the driver's message on one line."""
    said = error.orig if isinstance(error, DBAPIError) else error
    return " ".join(str(said).split())
