"""The key of the server's operator."""

import asyncio
from collections.abc import Callable

from xtrace_server.auth.guard import ON_THE_HOST, Operator
from xtrace_server.auth.keys import hash_key, new_key
from xtrace_server.operations.audit import record
from xtrace_server.operations.writing import operating
from xtrace_server.storage import operator_keys
from xtrace_server.storage.database import THE_SERVICE, Connection, Database


async def create_first(database: Database, deliver: Callable[[str], None]) -> bool:
    """Creates the operator key if none exists; returns whether it did.

    `deliver` gets the key in a thread, before the database knows it; if it raises, nothing is created.
    """
    async with operating(database, ON_THE_HOST) as connection:
        if await operator_keys.exists(connection):
            return False
        key = await _replaced(connection, ON_THE_HOST, "operator_key.create")
        await asyncio.to_thread(deliver, key)
    return True


async def rotate(database: Database, operator: Operator) -> str:
    """Replaces the operator key, which stops working at once; returns the new one, which only the caller has."""
    async with operating(database, operator) as connection:
        return await _replaced(connection, operator, "operator_key.rotate")


async def _replaced(connection: Connection, operator: Operator, action: str) -> str:
    key = new_key()
    await operator_keys.replace(connection, hash_key(key))
    await record(connection, operator.to(THE_SERVICE), action, hash_key(key))
    return key
