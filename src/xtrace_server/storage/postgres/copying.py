"""Many rows at once, by COPY in its binary form."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import psycopg
import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from xtrace_server.storage.postgres.faults import without_values

_TYPES: Final[Mapping[type[Any], str]] = {
    sa.BigInteger: "int8",
    sa.SmallInteger: "int2",
    sa.Integer: "int4",
    sa.LargeBinary: "bytea",
    sa.String: "text",
}
"""In this order: an integer of another width is an integer too."""


async def copy_rows(connection: AsyncConnection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Inserts the rows, which all have the same columns, in the connection's transaction."""
    names = list(rows[0])
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(
        sql.Identifier(table.name), sql.SQL(", ").join(map(sql.Identifier, names))
    )
    driver = (await connection.get_raw_connection()).driver_connection
    if driver is None:
        raise RuntimeError("the connection of an open transaction is missing")
    try:
        async with driver.cursor() as cursor, cursor.copy(statement) as copy:
            copy.set_types([_type_of(table.c[name]) for name in names])
            for row in rows:
                await copy.write_row([row[name] for name in names])
    except psycopg.Error as error:
        without_values(error)
        if driver.broken:
            await connection.invalidate(error)
        raise DBAPIError.instance(
            f"COPY {table.name}", None, error, psycopg.Error, hide_parameters=True, dialect=connection.dialect
        ) from error


def _type_of(column: sa.Column[Any]) -> str:
    return next(name for kind, name in _TYPES.items() if isinstance(column.type, kind))
