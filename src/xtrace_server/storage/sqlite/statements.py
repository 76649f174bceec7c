"""What SQLite does in its own way within a writing transaction; it runs one of these at a time."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any

from sqlalchemy import Table
from sqlalchemy.ext.asyncio import AsyncConnection


class SqliteStatements:
    """`Statements` of SQLite."""

    async def insert_rows(self, connection: AsyncConnection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """Inserts by the driver's own call: for each row SQLAlchemy would take nearly as long as SQLite does.

        The values must be such as SQLite takes as they are.
        """
        if not rows:
            return
        names = tuple(rows[0])
        values = [(row[names[0]],) for row in rows] if len(names) == 1 else [*map(itemgetter(*names), rows)]
        await connection.exec_driver_sql(_insertion(table, names), values)

    async def has_grown(self, connection: AsyncConnection, table: Table) -> None:
        """Plans do not depend on how large a table is."""

    async def hold(self, connection: AsyncConnection, *names: str) -> None:
        """No other writing transaction is open that could claim one."""

    async def claim(self, connection: AsyncConnection, name: str) -> None:
        """No other writing transaction is open that could claim or hold it."""


@lru_cache(maxsize=64)
def _insertion(table: Table, names: tuple[str, ...]) -> str:
    columns = ", ".join(f'"{table.c[name].name}"' for name in names)
    return f'INSERT INTO "{table.name}" ({columns}) VALUES ({", ".join("?" for _ in names)})'  # noqa: S608 - our names
