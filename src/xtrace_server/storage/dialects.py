"""What each kind of database brings along, behind one interface; the queries beside this module are shared by all.

A folder holds everything that only one kind of database knows: `sqlite` and `postgres`.
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
    """False if readers kept some of the space in use: it is returned later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a server uses a database that is a server itself; SQLite takes no notice."""

    connections: int = 16
    """Connections that it opens at most, from 4 on."""
    statement_timeout_s: float = 120.0
    """Seconds after which the database ends a statement."""


class Places(NamedTuple):
    """How many transactions of organisations run at the same time."""

    readers: int
    writers: int


class Statements(Protocol):
    """What each kind of database does in its own way within a writing transaction, whose connection is given."""

    async def insert_rows(self, connection: AsyncConnection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """Inserts rows, which all have the same columns, in the fastest way that the database has."""
        ...

    async def has_grown(self, connection: AsyncConnection, table: Table) -> None:
        """Says that a table is another now, for a database that plans by the sizes of tables."""
        ...

    async def hold(self, connection: AsyncConnection, *names: str) -> None:
        """Keeps others from claiming any of the names until the transaction ends; waits for who has claimed one.

        A transaction that holds several takes them in the same order as others.
        """
        ...

    async def claim(self, connection: AsyncConnection, name: str) -> None:
        """Keeps others from claiming or holding the name until the transaction ends; waits for who does."""
        ...


STATEMENTS: Final = "xtrace_statements"
"""The execution option by which the engines of a dialect name their `Statements`."""


class Dialect(Protocol):
    """One database, and what only its kind knows."""

    @property
    def kind(self) -> str:
        """What people call the database."""
        ...

    @property
    def is_shared(self) -> bool:
        """Whether servers on other data folders, and other hosts, may have the database open too."""
        ...

    @property
    def places(self) -> Places:
        """How many transactions it runs at the same time."""
        ...

    @property
    def location(self) -> str:
        """Where the database is, for messages."""
        ...

    def exists(self) -> bool:
        """Returns whether the database is there already."""
        ...

    def checked_versions(self, known_versions: Collection[str], whole: bool) -> Collection[str]:
        """Returns the versions of the schema that the database has: none for one that is missing or empty. Blocks.

        Changes and creates nothing. `known_versions` are the schema's. `whole` also looks for damage, page by page.
        Raises `DatabaseUnusable` and `OSError`.
        """
        ...

    def cautions(self, changes_schema: bool) -> Sequence[str]:
        """Returns what will trouble a server over this database: a sentence each, which says what to do. Blocks.

        `changes_schema` says whether the server will have to. Raises `DatabaseUnusable`.
        """
        ...

    def prepare(self, folder: Path, known_versions: Collection[str], whole: bool) -> None:
        """Creates what is missing, and checks what is there before anything changes it. Blocks.

        `folder` is the server's data folder; the other arguments are those of `checked_versions`. Raises
        `DatabaseUnusable` and `OSError`.
        """
        ...

    def reader(self, connections: int) -> AsyncEngine:
        """Returns an engine whose transactions are snapshots, at most `connections` of them at once.

        It has the execution option `STATEMENTS`. A statement ends when the task that waits for it is cancelled; so it
        is with `writer`.
        """
        ...

    def writer(self, connections: int) -> AsyncEngine:
        """Returns an engine whose transactions write, and wait for each other instead of failing half way."""
        ...

    async def be_alone(self, connection: AsyncConnection) -> None:
        """Waits until no other transaction that called this, of any server, is open; holds until this one ends."""
        ...

    def fault(self, error: DBAPIError) -> ServiceError | None:
        """Returns the answer to a request that met this error; None for a bug or for damaged data."""
        ...

    def may_be_repeated(self, error: DBAPIError) -> bool:
        """Returns whether a transaction failed only because of another one at the same time."""
        ...

    def sizes(self) -> Mapping[str, Reading]:
        """Returns what to measure of the database, by the names of `Metrics.watch_database`."""
        ...

    def stored_bytes(self) -> int:
        """Returns how many bytes the database takes, its log included. Blocks. Raises `DatabaseUnusable`."""
        ...

    def keep_log_short(self) -> None:
        """Does what keeps the database's log short, while others read and write. Blocks."""
        ...

    def log_grows(self) -> bool:
        """Returns whether the log has grown so much that `keep_log_short` should run before the next write."""
        ...

    def tidy(self) -> bool:
        """Removes what was deleted or replaced from the database's log; False if that is not possible now. Blocks.

        No one waits for it.
        """
        ...

    def vacuum(self) -> Vacuumed:
        """Gives unused space back to the disk. Blocks; a server may be running. Raises `DatabaseUnusable`."""
        ...

    def snapshot(self) -> AbstractContextManager[Connection]:
        """A connection that reads the database as it is at this moment; a server may be running.

        Blocks.
        """
        ...

    def draft(self) -> AbstractContextManager[Connection]:
        """A connection to a new, empty database, which appears in the place of this one when the block ends.

        When the block raises, nothing is there; after a kill nothing but a mark, for which `prepare` refuses until
        there is a database. Blocks. Raises `DatabaseUnusable` when it is entered if this database exists, and
        `OSError`.
        """
        ...

    def load_rows(self, connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
        """Inserts rows, with a value for each column of the table, through a connection of `draft`."""
        ...

    def next_keys(self, connection: Connection) -> Mapping[str, int]:
        """Returns, for each table whose rows the database numbers and which had some, the next number."""
        ...

    def set_next_key(self, connection: Connection, table: str, next_key: int) -> None:
        """Lets the database number the next row of the table with `next_key`, or beyond the greatest there is."""
        ...


def dialect_of(url: str, options: Options | None = None) -> Dialect:
    """Returns the database at a URL. Raises `ValueError` if no dialect knows it, or its driver is not installed."""
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
    """Returns what the kind of the connection's database writes or locks in its own way."""
    found: Statements = connection.engine.sync_engine.get_execution_options()[STATEMENTS]
    return found


def default_url(folder: Path) -> str:
    """Returns the URL of the database that a server keeps in its data folder unless told otherwise."""
    return f"sqlite+aiosqlite:///{folder.resolve() / 'xtrace.db'}"
