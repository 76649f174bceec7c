"""PostgreSQL for commands that read or write a whole database."""

from collections.abc import Mapping
from typing import Final

import sqlalchemy as sa
from sqlalchemy import Connection

from xtrace_server.storage.schema import metadata

MARK: Final = "xtrace_unfinished"
"""An empty table that exists while a draft does."""
_NEXT: Final = (
    "SELECT CASE WHEN is_called THEN last_value + 1 ELSE last_value END, is_called OR last_value > 1 FROM {sequence}"
)


def has_tables(connection: Connection) -> bool:
    """Returns whether an XTrace database exists in the connection's schema."""
    return bool(connection.exec_driver_sql("SELECT to_regclass('alembic_version') IS NOT NULL").scalar())


def is_unfinished(connection: Connection) -> bool:
    """Returns whether an incomplete draft of the database exists."""
    return bool(connection.exec_driver_sql(f"SELECT to_regclass('{MARK}') IS NOT NULL").scalar())


def mark_unfinished(connection: Connection) -> None:
    connection.exec_driver_sql(f"CREATE TABLE IF NOT EXISTS {MARK} ()")


def remove_mark(connection: Connection) -> None:
    connection.exec_driver_sql(f"DROP TABLE IF EXISTS {MARK}")


def next_keys(connection: Connection) -> Mapping[str, int]:
    """Returns the next number for each table that has had rows and whose rows PostgreSQL numbers."""
    found: dict[str, int] = {}
    for table, sequence in _sequences(connection):
        following, was_used = connection.exec_driver_sql(_NEXT.format(sequence=sequence)).one()
        if was_used:
            found[table] = following
    return found


def set_next_key(connection: Connection, table: str, next_key: int) -> None:
    """Makes PostgreSQL number the table's next row `next_key`, or higher than all existing rows."""
    key = next(iter(metadata.tables[table].primary_key.columns))
    greatest = connection.execute(sa.select(sa.func.coalesce(sa.func.max(key), 0))).scalar_one()
    sequence = dict(_sequences(connection))[table]
    connection.execute(sa.select(sa.func.setval(sequence, max(next_key, greatest + 1), False)))


def _sequences(connection: Connection) -> list[tuple[str, str]]:
    """Returns the tables whose rows PostgreSQL numbers, each with its sequence."""
    query = (
        "SELECT table_name, pg_get_serial_sequence(quote_ident(table_name), column_name) "
        "FROM information_schema.columns WHERE table_schema = current_schema() AND column_default LIKE 'nextval(%%'"
    )
    return [(table, sequence) for table, sequence in connection.exec_driver_sql(query) if sequence]
