"""Inserts many rows at once, with COPY in its binary format."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
"""The order matters, because an integer of another width is also an integer."""


async def copy_rows(
    connection: AsyncConnection, table: sa.Table, names: Sequence[str], rows: Sequence[tuple[Any, ...]]
) -> None:
    """Inserts rows, with a value for each of the named columns, in the connection's transaction."""
    driver = (await connection.get_raw_connection()).driver_connection
    if driver is None:
        raise RuntimeError("the connection of an open transaction is missing")
    try:
        with _without_values(table, connection.dialect):
            async with driver.cursor() as cursor, cursor.copy(_statement(table, names)) as copy:
                copy.set_types(_types(table, names))
                for row in rows:
                    await copy.write_row(row)
    except DBAPIError as error:
        if driver.broken:
            await connection.invalidate(error)
        raise


def load_rows(connection: sa.Connection, table: sa.Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Does the same through a blocking connection, for rows with a value for each column of the table."""
    names = table.columns.keys()
    driver: Any = connection.connection.driver_connection
    with (
        _without_values(table, connection.dialect),
        driver.cursor() as cursor,
        cursor.copy(_statement(table, names)) as copy,
    ):
        copy.set_types(_types(table, names))
        for row in rows:
            copy.write_row(row)


def _statement(table: sa.Table, names: Sequence[str]) -> sql.Composed:
    return sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(
        sql.Identifier(table.name), sql.SQL(", ").join(map(sql.Identifier, names))
    )


def _types(table: sa.Table, names: Sequence[str]) -> list[str]:
    return [next(name for kind, name in _TYPES.items() if isinstance(table.c[one].type, kind)) for one in names]


@contextmanager
def _without_values(table: sa.Table, dialect: sa.Dialect) -> Iterator[None]:
    """Turns the driver's errors into SQLAlchemy's, without the values that they quote."""
    try:
        yield
    except psycopg.Error as error:
        without_values(error)
        raise DBAPIError.instance(
            f"COPY {table.name}", None, error, psycopg.Error, hide_parameters=True, dialect=dialect
        ) from error
