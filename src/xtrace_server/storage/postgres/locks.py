"""Locks by name, which last until the transaction ends (advisory locks of PostgreSQL).

Who waits to claim one is not overtaken by those who come later to hold it.
"""

from collections.abc import Iterable
from hashlib import sha256

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection


async def hold(connection: AsyncConnection, names: Iterable[str]) -> None:
    """Waits until none of the names is claimed, one after the other; others may hold them too."""
    await connection.execute(sa.select(*[sa.func.pg_advisory_xact_lock_shared(_number(name)) for name in names]))


async def claim(connection: AsyncConnection, name: str) -> None:
    """Waits until the name is neither claimed nor held."""
    await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_number(name))))


def _number(name: str) -> sa.BindParameter[int]:
    # Two names with the same number would only wait for each other.
    return sa.literal(int.from_bytes(sha256(name.encode()).digest()[:8], signed=True), sa.BigInteger())
