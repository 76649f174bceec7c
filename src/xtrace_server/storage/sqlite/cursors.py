"""Executes each statement with a single call to its connection's thread.

An aiosqlite connection is a thread. SQLAlchemy's cursor calls it to open a cursor, to execute, to fetch and to close,
and each time two threads wake each other, which takes longer than most statements. This cursor does all of that in one
call. Streaming cursors (`AsyncConnection.stream`) are still SQLAlchemy's.
"""

import sqlite3
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy.connectors.asyncio import AsyncAdapt_dbapi_connection, AsyncAdapt_dbapi_cursor
from sqlalchemy.dialects.sqlite.aiosqlite import AsyncAdapt_aiosqlite_connection
from sqlalchemy.util import EMPTY_DICT


@dataclass(frozen=True, slots=True)
class _Answer:
    """The result of a statement, read while its cursor was open."""

    rows: Iterable[Any] = ()
    description: Any = None
    rowcount: int = -1
    lastrowid: int | None = None


class OneCallCursor(AsyncAdapt_dbapi_cursor):
    """Executes a statement and fetches all of its rows in one call to the thread."""

    __slots__ = ("_answer", "_arraysize")

    def __init__(self, adapt_connection: AsyncAdapt_dbapi_connection) -> None:
        self._adapt_connection = adapt_connection
        self._connection = adapt_connection._connection
        self._soft_closed_memoized = EMPTY_DICT
        self._rows = deque()
        self._answer = _Answer()
        self._arraysize = 1

    @property
    def description(self) -> Any:
        return self._answer.description

    @property
    def rowcount(self) -> int:
        return self._answer.rowcount

    @property
    def lastrowid(self) -> Any:
        return self._answer.lastrowid

    @property
    def arraysize(self) -> int:
        return self._arraysize

    @arraysize.setter
    def arraysize(self, value: int) -> None:
        self._arraysize = value

    def close(self) -> None:
        self._rows.clear()

    async def _async_soft_close(self) -> None:
        """Does nothing, because no cursor is open."""

    async def _execute_async(self, operation: Any, parameters: Any) -> None:
        await self._ask(sqlite3.Cursor.execute, operation, () if parameters is None else parameters)

    async def _executemany_async(self, operation: Any, seq_of_parameters: Any) -> None:
        await self._ask(sqlite3.Cursor.executemany, operation, seq_of_parameters)

    async def _ask(self, execute: Callable[..., Any], *arguments: Any) -> None:
        connection = self._connection
        async with self._adapt_connection._execute_mutex:
            # The same as aiosqlite's own methods, none of which also returns the description and the counts.
            self._answer = await connection._execute(_answer, connection._conn, execute, arguments)
        self._rows = deque(self._answer.rows)


class OneCallConnection(AsyncAdapt_aiosqlite_connection):
    """A connection with such cursors."""

    __slots__ = ()

    _cursor_cls = OneCallCursor  # type: ignore[assignment]

    def rollback(self) -> None:
        """Ends the transaction; does not call the thread if none has begun."""
        if self._connection.in_transaction:
            super().rollback()


def _answer(connection: sqlite3.Connection, execute: Callable[..., Any], arguments: tuple[Any, ...]) -> _Answer:
    cursor = connection.cursor()
    try:
        execute(cursor, *arguments)
        rows = cursor.fetchall() if cursor.description else ()
        return _Answer(rows, cursor.description, cursor.rowcount, cursor.lastrowid)
    finally:
        cursor.close()
