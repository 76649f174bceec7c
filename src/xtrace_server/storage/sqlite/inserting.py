"""Many rows at once, by the driver's own call: for each row SQLAlchemy would take nearly as long as SQLite does."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any

from sqlalchemy import Table
from sqlalchemy.ext.asyncio import AsyncConnection


async def insert_rows(connection: AsyncConnection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Inserts the rows, which all have the same columns, as values that SQLite takes as they are."""
    names = tuple(rows[0])
    values = [(row[names[0]],) for row in rows] if len(names) == 1 else [*map(itemgetter(*names), rows)]
    await connection.exec_driver_sql(_statement(table, names), values)


@lru_cache(maxsize=64)
def _statement(table: Table, names: tuple[str, ...]) -> str:
    columns = ", ".join(f'"{table.c[name].name}"' for name in names)
    return f'INSERT INTO "{table.name}" ({columns}) VALUES ({", ".join("?" for _ in names)})'  # noqa: S608 - our names
