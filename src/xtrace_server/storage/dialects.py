"""The interface of each kind of database; all kinds share the queries in the other modules.

Everything specific to one kind of database is in its folder: `sqlite` or `postgres`.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from sqlalchemy import Connection, Table
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from xtrace_server.errors import ServiceError
from xtrace_server.metrics import Reading


class DatabaseUnusable(Exception):
    """The database is damaged, foreign, of a newer version or in use; the message says which. Nothing was changed."""


@dataclass(frozen=True, slots=True)
class Vacuumed:
    """The result of a vacuum; bytes count the database and its log together."""

    bytes_given_back: int
    bytes_now: int
    complete: bool
    """False if readers still used some of the space, which is then returned later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to use a database server; SQLite ignores this."""

    connections: int = 16
    """The maximum number of connections, at least 4."""
    statement_timeout_s: float = 120.0
    """The time limit of a statement, in seconds."""


class Places(NamedTuple):
    """The numbers of concurrent transactions of organisations."""

    readers: int
    writers: int


class Statements(Protocol):
    """What each kind of database does in its own way within a writing transaction, on the given connection."""

    async def insert_rows(
        self, connection: AsyncConnection, table: Table, names: Sequence[str], rows: Sequence[tuple[Any, ...]]
    ) -> None:
        """Inserts rows, with a value for each of the named columns, in the database's fastest way."""
        ...

    async def update_rows(
        self, connection: AsyncConnection, table: Table, names: Sequence[str], rows: Sequence[tuple[Any, ...]]
    ) -> None:
        """Updates rows in the same way; each has a value for each of the named columns, and last the `pk`."""
        ...

    async def has_grown(self, connection: AsyncConnection, table: Table) -> None:
        """Reports that a table has changed a lot, for a database that plans queries by table sizes."""
        ...

    async def hold(self, connection: AsyncConnection, *names: str) -> None:
        """Locks the names against claims until the transaction ends; waits for transactions that have claimed one.

        A transaction that holds several names locks them in the same order as others.
        """
        ...

    async def claim(self, connection: AsyncConnection, name: str) -> None:
        """Locks the name against claims and holds until the transaction ends; waits for transactions that have it."""
        ...


STATEMENTS: Final = "xtrace_statements"
"""The execution option with which a dialect's engines name their `Statements`."""


class Dialect(Protocol):
    """One database, with the code specific to its kind."""

    @property
    def kind(self) -> str:
        """The database's name for people."""
        ...

    @property
    def is_shared(self) -> bool:
        """Whether servers on other data folders and hosts may also use the database."""
        ...

    @property
    def places(self) -> Places:
        """The numbers of its concurrent transactions."""
        ...

    @property
    def location(self) -> str:
        """The place of the database, for messages."""
        ...

    def exists(self) -> bool:
        """Returns whether the database exists."""
        ...

    def checked_versions(self, known_versions: Collection[str], whole: bool) -> Collection[str]:
        """Checks the database, and returns its schema versions: none if it is missing or empty. Blocks.

        Changes and creates nothing. `known_versions` are the known schema versions. `whole` also checks every page for
        damage. Raises `DatabaseUnusable` and `OSError`.
        """
        ...

    def cautions(self, changes_schema: bool) -> Sequence[str]:
        """Returns likely problems of a server with this database, each as a sentence that says what to do. Blocks.

        `changes_schema` says whether the server will have to migrate it. Raises `DatabaseUnusable`.
        """
        ...

    def prepare(self, folder: Path, known_versions: Collection[str], whole: bool) -> None:
        """Creates what is missing, and checks what exists before anything changes it. Blocks.

        `folder` is the server's data folder; the other arguments are those of `checked_versions`. Raises
        `DatabaseUnusable` and `OSError`.
        """
        ...

    def reader(self, connections: int) -> AsyncEngine:
        """Returns an engine whose transactions are snapshots, with at most `connections` at once.

        It has the execution option `STATEMENTS`. As with `writer`, a statement ends when the task that waits for it is
        cancelled.
        """
        ...

    def single(self, reader: AsyncEngine) -> AsyncEngine:
        """Returns an engine with the connections of a `reader`, for single statements outside a transaction.

        Each statement is a snapshot by itself.
        """
        ...

    def writer(self, connections: int) -> AsyncEngine:
        """Returns an engine whose transactions write, and wait for each other instead of failing halfway."""
        ...

    async def be_alone(self, connection: AsyncConnection) -> None:
        """Waits for other transactions that called this, on any server, and excludes them until this one ends."""
        ...

    def fault(self, error: DBAPIError) -> ServiceError | None:
        """Returns the answer to a request that failed with this error; None for a bug or damaged data."""
        ...

    def may_be_repeated(self, error: DBAPIError) -> bool:
        """Returns whether a transaction failed only because of a concurrent one."""
        ...

    def sizes(self) -> Mapping[str, Reading]:
        """Returns readings of the database, by the names of `Metrics.watch_database`."""
        ...

    def stored_bytes(self) -> int:
        """Returns the size of the database in bytes, including its log. Blocks. Raises `DatabaseUnusable`."""
        ...

    def keep_log_short(self) -> None:
        """Shortens the database's log while others read and write. Blocks."""
        ...

    def log_grows(self) -> bool:
        """Returns whether the log has grown so much that `keep_log_short` should run before the next write."""
        ...

    def tidy(self) -> bool:
        """Removes deleted and replaced data from the database's log; returns False if that is not possible now. Blocks.

        Nothing waits for it.
        """
        ...

    def vacuum(self) -> Vacuumed:
        """Returns unused space to the disk. Blocks; a server may be running. Raises `DatabaseUnusable`."""
        ...

    def snapshot(self) -> AbstractContextManager[Connection]:
        """Yields a connection that reads a snapshot of the database; a server may be running.

        Blocks.
        """
        ...

    def draft(self) -> AbstractContextManager[Connection]:
        """Yields a connection to a new, empty database, which appears at this one's place when the block ends.

        If the block raises, nothing is left. A kill leaves only a mark, because of which `prepare` fails until a
        database exists. Blocks. On entry, raises `DatabaseUnusable` if this database exists, and `OSError`.
        """
        ...

    def load_rows(self, connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
        """Inserts rows, with a value for each column of the table, through a connection from `draft`."""
        ...

    def next_keys(self, connection: Connection) -> Mapping[str, int]:
        """Returns the next number for each table that has had rows and whose rows the database numbers."""
        ...

    def set_next_key(self, connection: Connection, table: str, next_key: int) -> None:
        """Makes the database number the table's next row `next_key`, or higher than all existing rows."""
        ...


def dialect_of(url: str, options: Options | None = None) -> Dialect:
    """Returns the database at a URL. Raises `ValueError` for an unknown kind, or if its driver is not installed."""
    if url.startswith("sqlite+aiosqlite:///"):
        from xtrace_server.storage.sqlite.dialect import Sqlite

        return Sqlite(url)
    if url.startswith(("postgresql://", "postgres://")):
        try:
            from xtrace_server.storage.postgres.dialect import Postgres
        except ImportError:
            raise ValueError("PostgreSQL needs its driver: pip install 'xtracedb[postgresql]'") from None
        return Postgres(url, options or Options())
    raise ValueError("expected a URL that begins with postgresql:// or sqlite+aiosqlite:///")


def statements(connection: AsyncConnection) -> Statements:
    """Returns the `Statements` of the connection's database."""
    found: Statements = connection.engine.sync_engine.get_execution_options()[STATEMENTS]
    return found


def default_url(folder: Path) -> str:
    """Returns the URL of the default database in a server's data folder."""
    return f"sqlite+aiosqlite:///{folder.resolve() / 'xtrace.db'}"
