"""SQLite's own statements within a writing transaction, of which it runs one at a time."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any

from sqlalchemy import Table
from sqlalchemy.ext.asyncio import AsyncConnection


class SqliteStatements:
    """`Statements` of SQLite."""

    async def insert_rows(self, connection: AsyncConnection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """Inserts with the driver's own call, because SQLAlchemy would take nearly as long per row as SQLite itself.

        The values must be of types that SQLite accepts directly.
        """
        if not rows:
            return
        names = tuple(rows[0])
        values = [(row[names[0]],) for row in rows] if len(names) == 1 else [*map(itemgetter(*names), rows)]
        await connection.exec_driver_sql(_insertion(table, names), values)

    async def has_grown(self, connection: AsyncConnection, table: Table) -> None:
        """Does nothing: SQLite's plans do not depend on table sizes."""

    async def hold(self, connection: AsyncConnection, *names: str) -> None:
        """Does nothing: no other writing transaction is open."""

    async def claim(self, connection: AsyncConnection, name: str) -> None:
        """Does nothing: no other writing transaction is open."""


@lru_cache(maxsize=64)
def _insertion(table: Table, names: tuple[str, ...]) -> str:
    columns = ", ".join(f'"{table.c[name].name}"' for name in names)
    return f'INSERT INTO "{table.name}" ({columns}) VALUES ({", ".join("?" for _ in names)})'  # noqa: S608 - our names
