"""PostgreSQL's own statements within a writing transaction.

Names are locked with advisory locks, which last until the transaction ends. A transaction that waits to claim a name is
not overtaken by later ones that hold it.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from xtrace_server.storage.postgres.copying import copy_rows


class PostgresStatements:
    """`Statements` of PostgreSQL."""

    async def insert_rows(
        self, connection: AsyncConnection, table: sa.Table, names: Sequence[str], rows: Sequence[tuple[Any, ...]]
    ) -> None:
        """Inserts by COPY."""
        if rows:
            await copy_rows(connection, table, names, rows)

    async def update_rows(
        self, connection: AsyncConnection, table: sa.Table, names: Sequence[str], rows: Sequence[tuple[Any, ...]]
    ) -> None:
        """Updates with one prepared statement."""
        if rows:
            statement = sa.update(table).where(table.c.pk == sa.bindparam("this_pk"))
            await connection.execute(statement, [dict(zip((*names, "this_pk"), row, strict=True)) for row in rows])

    async def has_grown(self, connection: AsyncConnection, table: sa.Table) -> None:
        """Refreshes the table's statistics, which the planner uses."""
        await connection.exec_driver_sql(f"ANALYZE {table.name}")

    async def hold(self, connection: AsyncConnection, *names: str) -> None:
        """Waits, for one name after the other, until it is not claimed; others may hold it too."""
        await connection.execute(sa.select(*[sa.func.pg_advisory_xact_lock_shared(_number(name)) for name in names]))

    async def claim(self, connection: AsyncConnection, name: str) -> None:
        """Waits until the name is neither claimed nor held."""
        await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_number(name))))


def _number(name: str) -> sa.BindParameter[int]:
    # If two names share a number, they only wait for each other.
    return sa.literal(int.from_bytes(sha256(name.encode()).digest()[:8], signed=True), sa.BigInteger())
