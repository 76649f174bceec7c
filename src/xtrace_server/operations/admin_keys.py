"""The admin keys of an organisation: what the server's operator does with them."""

from collections.abc import Iterable

from xtrace_server.auth.guard import Operator
from xtrace_server.auth.keys import hash_key, new_key
from xtrace_server.operations.audit import record
from xtrace_server.operations.writing import operating
from xtrace_server.storage import organisations
from xtrace_server.storage.database import Connection, Database
from xtrace_server.storage.organisations import AdminKey


async def list_all(database: Database, organisation_id: str) -> list[AdminKey]:
    """Returns the organisation's admin keys, the oldest first. Raises `OrganisationNotFound`."""
    async with database.look_up() as connection:
        await organisations.get(connection, organisation_id)
        return await organisations.list_admin_keys(connection, organisation_id)


async def create(database: Database, operator: Operator, organisation_id: str) -> tuple[AdminKey, str]:
    """Creates a further admin key; returns it as stored, and the key itself, which only the caller has.

    The others go on working. Raises `OrganisationNotFound`.
    """
    async with operating(database, operator) as connection:
        return await _created(connection, operator, organisation_id)


async def rotate(database: Database, operator: Operator, organisation_id: str) -> tuple[AdminKey, str]:
    """Creates an admin key and revokes all others, in one transaction; returns the same as `create`.

    Raises `OrganisationNotFound`.
    """
    async with operating(database, operator) as connection:
        before = await organisations.list_admin_keys(connection, organisation_id)
        created = await _created(connection, operator, organisation_id)
        await _revoke(connection, operator, organisation_id, [key.hash for key in before])
    return created


async def revoke(database: Database, operator: Operator, organisation_id: str, key_hash: str) -> int:
    """Revokes an admin key, and returns how many the organisation has left.

    Without any, its API keys go on working and nobody changes its knowledge bases and keys, until the operator creates
    an admin key. Raises `OrganisationNotFound` and `KeyNotFound`.
    """
    async with operating(database, operator) as connection:
        await organisations.get(connection, organisation_id)
        await _revoke(connection, operator, organisation_id, [key_hash])
        return len(await organisations.list_admin_keys(connection, organisation_id))


async def _created(connection: Connection, operator: Operator, organisation_id: str) -> tuple[AdminKey, str]:
    secret = new_key()
    await organisations.get(connection, organisation_id)
    key = await organisations.add_admin_key(connection, organisation_id, hash_key(secret))
    await record(connection, operator.to(organisation_id), "admin_key.create", key.hash)
    return key, secret


async def _revoke(connection: Connection, operator: Operator, organisation_id: str, hashes: Iterable[str]) -> None:
    for key_hash in hashes:
        await organisations.remove_admin_key(connection, organisation_id, key_hash)
        await record(connection, operator.to(organisation_id), "admin_key.revoke", key_hash)
