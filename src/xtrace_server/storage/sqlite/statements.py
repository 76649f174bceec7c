"""SQLite's own statements within a writing transaction, of which it runs one at a time."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

from sqlalchemy import Table
from sqlalchemy.ext.asyncio import AsyncConnection

from xtrace_server.storage.steps import PARAMETERS


class SqliteStatements:
    """`Statements` of SQLite."""

    async def insert_rows(
        self, connection: AsyncConnection, table: Table, names: Sequence[str], rows: Sequence[tuple[Any, ...]]
    ) -> None:
        """Inserts with the driver's own call, because SQLAlchemy would take nearly as long per row as SQLite itself.

        The values must be of types that SQLite accepts directly. One statement inserts many rows: after each
        statement the driver waits until it may run Python again.
        """
        many = max(PARAMETERS // len(names), 1)
        whole = len(rows) - len(rows) % many
        if whole:
            values = [tuple(chain.from_iterable(rows[i : i + many])) for i in range(0, whole, many)]
            await connection.exec_driver_sql(_insertion(table, tuple(names), many), values)
        if whole < len(rows):
            await connection.exec_driver_sql(_insertion(table, tuple(names), 1), list(rows[whole:]))

    async def update_rows(
        self, connection: AsyncConnection, table: Table, names: Sequence[str], rows: Sequence[tuple[Any, ...]]
    ) -> None:
        """Updates with the driver's own call, for the same reason."""
        if rows:
            columns = ", ".join(f'"{table.c[name].name}" = ?' for name in names)
            statement = f'UPDATE "{table.name}" SET {columns} WHERE "pk" = ?'  # noqa: S608 - our names
            await connection.exec_driver_sql(statement, list(rows))

    async def has_grown(self, connection: AsyncConnection, table: Table) -> None:
        """Does nothing: SQLite's plans do not depend on table sizes."""

    async def hold(self, connection: AsyncConnection, *names: str) -> None:
        """Does nothing: no other writing transaction is open."""

    async def claim(self, connection: AsyncConnection, name: str) -> None:
        """Does nothing: no other writing transaction is open."""


@lru_cache(maxsize=64)
def _insertion(table: Table, names: tuple[str, ...], rows: int) -> str:
    columns = ", ".join(f'"{table.c[name].name}"' for name in names)
    row = f"({', '.join('?' for _ in names)})"
    return f'INSERT INTO "{table.name}" ({columns}) VALUES {", ".join([row] * rows)}'  # noqa: S608 - our names
