"""What PostgreSQL does in its own way within a writing transaction.

Names are locked by advisory locks, which last until the transaction ends. Who waits to claim one is not overtaken by
those who come later to hold it.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from xtrace_server.storage.postgres.copying import copy_rows


class PostgresStatements:
    """`Statements` of PostgreSQL."""

    async def insert_rows(
        self, connection: AsyncConnection, table: sa.Table, rows: Sequence[Mapping[str, Any]]
    ) -> None:
        """Inserts by COPY."""
        if rows:
            await copy_rows(connection, table, rows)

    async def has_grown(self, connection: AsyncConnection, table: sa.Table) -> None:
        """Counts it again: the planner goes by that."""
        await connection.exec_driver_sql(f"ANALYZE {table.name}")

    async def hold(self, connection: AsyncConnection, *names: str) -> None:
        """Waits until none of the names is claimed, one after the other; others may hold them too."""
        await connection.execute(sa.select(*[sa.func.pg_advisory_xact_lock_shared(_number(name)) for name in names]))

    async def claim(self, connection: AsyncConnection, name: str) -> None:
        """Waits until the name is neither claimed nor held."""
        await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_number(name))))


def _number(name: str) -> sa.BindParameter[int]:
    # Two names with the same number would only wait for each other.
    return sa.literal(int.from_bytes(sha256(name.encode()).digest()[:8], signed=True), sa.BigInteger())
