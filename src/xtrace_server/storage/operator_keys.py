"""The hash of the server's operator key."""

from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from xtrace_server.storage.database import now
from xtrace_server.storage.schema import operator_key


async def find(connection: AsyncConnection, key_hash: str) -> str | None:
    """Returns the stored hash if this is the operator key, else None."""
    query = select(operator_key.c.hash).where(operator_key.c.hash == key_hash)
    found: str | None = (await connection.execute(query)).scalar_one_or_none()
    return found


async def exists(connection: AsyncConnection) -> bool:
    """Whether an operator key exists."""
    return bool((await connection.execute(select(func.count()).select_from(operator_key))).scalar())


async def replace(connection: AsyncConnection, key_hash: str) -> None:
    """Stores a key, which replaces all others."""
    await connection.execute(delete(operator_key))
    await connection.execute(insert(operator_key).values(hash=key_hash, created_at=now()))
