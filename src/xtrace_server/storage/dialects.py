"""What each kind of database brings along, behind one interface; the queries beside this module are shared by all.

A folder holds everything that only one kind of database knows: `sqlite` is the one there is.
"""

from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

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
    """False if readers kept some of the space in use: it is given back later."""


class Dialect(Protocol):
    """One database, and what only its kind knows."""

    @property
    def location(self) -> str:
        """Where the database is, for messages."""
        ...

    def exists(self) -> bool:
        """Returns whether the database is there already."""
        ...

    def prepare(self, folder: Path, known_versions: Collection[str], whole: bool) -> None:
        """Creates what is missing, and checks what is there before anything changes it. Blocks.

        `folder` is the server's data folder, `known_versions` are the schema's. `whole` also looks for damage, page by
        page. Raises `DatabaseUnusable` and `OSError`.
        """
        ...

    def reader(self, connections: int) -> AsyncEngine:
        """Returns an engine whose transactions are snapshots, with at most so many of them at once.

        A statement ends when the task that waits for it is cancelled; so it is with `writer`.
        """
        ...

    def writer(self) -> AsyncEngine:
        """Returns an engine whose transactions write, and wait for each other instead of failing half way."""
        ...

    def fault(self, error: DBAPIError) -> ServiceError | None:
        """Returns the answer to a request that met this error; None for a bug or for damaged data."""
        ...

    def sizes(self) -> Mapping[str, Reading]:
        """Returns what to measure of the database, by the names of `Metrics.watch_database`."""
        ...

    def keep_log_short(self) -> None:
        """Does what keeps the database's log short, while others read and write. Blocks."""
        ...

    def log_grows(self) -> bool:
        """Returns whether the log has grown so much that `keep_log_short` should run before the next write."""
        ...

    def tidy(self) -> bool:
        """Removes what was deleted or replaced from the database's log; False if that is not possible now. Blocks.

        Nobody waits for it.
        """
        ...

    def vacuum(self) -> Vacuumed:
        """Gives unused space back to the disk. Blocks; a server may be running. Raises `DatabaseUnusable`."""
        ...

    def snapshot(self) -> AbstractContextManager[Connection]:
        """A connection that reads the database as it is at this moment; a server may be running.

        Rows come one by one, whatever their number. Blocks.
        """
        ...

    def draft(self) -> AbstractContextManager[Connection]:
        """A connection to a new, empty database, which appears in the place of this one when the block ends.

        When the block raises, or is killed, nothing is there. Blocks. Raises `DatabaseUnusable` when it is entered if
        this database exists, and `OSError`.
        """
        ...

    def next_keys(self, connection: Connection) -> Mapping[str, int]:
        """Returns, for each table whose rows the database numbers and which had some, the next number."""
        ...

    def set_next_key(self, connection: Connection, table: str, next_key: int) -> None:
        """Lets the database number the next row of the table with `next_key`, or beyond the greatest there is."""
        ...


def dialect_of(url: str) -> Dialect:
    """Returns the database at a URL. Raises `ValueError` if no dialect knows it."""
    if url.startswith("sqlite+aiosqlite:///"):
        from xtrace_server.storage.sqlite.dialect import Sqlite

        return Sqlite(url)
    raise ValueError("expected a URL that begins with sqlite+aiosqlite:///")


def default_url(folder: Path) -> str:
    """Returns the URL of the database that a server keeps in its data folder unless told otherwise."""
    return f"sqlite+aiosqlite:///{folder.resolve() / 'xtrace.db'}"
