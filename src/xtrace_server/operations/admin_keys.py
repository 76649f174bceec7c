"""The admin keys of an organisation, for the server's operator and for the organisation."""

import hmac
from collections.abc import Iterable
from dataclasses import dataclass

from xtrace_server.auth.guard import Actor, Operator
from xtrace_server.auth.keys import hash_key, new_key
from xtrace_server.errors import Unauthenticated
from xtrace_server.operations.audit import record
from xtrace_server.operations.sessions import NewSession, open_session
from xtrace_server.operations.writing import operating, repeatable
from xtrace_server.state import ServerState
from xtrace_server.storage import organisations
from xtrace_server.storage.database import Connection, Database
from xtrace_server.storage.organisations import AdminKey


async def list_all(database: Database, organisation_id: str) -> list[AdminKey]:
    """Returns the organisation's admin keys, oldest first. Raises `OrganisationNotFound`."""
    async with database.look_up() as connection:
        await organisations.get(connection, organisation_id)
        return await organisations.list_admin_keys(connection, organisation_id)


async def create(database: Database, operator: Operator, organisation_id: str) -> tuple[AdminKey, str]:
    """Creates another admin key; returns the stored record, and the key itself, which only the caller has.

    The others keep working. Raises `OrganisationNotFound`.
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


async def list_own(state: ServerState, actor: Actor) -> list[AdminKey]:
    """Returns the admin keys of the caller's organisation, oldest first."""
    async with state.database.read(actor.organisation_id) as connection:
        return await organisations.list_admin_keys(connection, actor.organisation_id)


@dataclass(frozen=True, slots=True, repr=False)
class Rotated:
    """A new admin key, and a session that was opened with it; only the caller has both."""

    key: AdminKey
    secret: str
    session: NewSession


@repeatable
async def rotate_own(state: ServerState, actor: Actor, current: str) -> Rotated:
    """Replaces all admin keys of the caller's organisation with a new one, and opens a session with it.

    `current` is the key with which the caller signed in, because a session alone does not prove it. Every other session
    ends. Raises `Unauthenticated`.
    """
    if not hmac.compare_digest(hash_key(current), actor.name):
        raise Unauthenticated("the admin key is not the one of this session; nothing was changed")
    secret = new_key()
    # One at a time: the second of two concurrent rotations finds that its key is gone.
    async with state.database.write(actor.organisation_id, urgent=True, alone=True) as connection:
        await actor.check_current(connection)
        before = await organisations.list_admin_keys(connection, actor.organisation_id)
        key = await organisations.add_admin_key(connection, actor.organisation_id, hash_key(secret))
        await record(connection, actor, "admin_key.rotate", key.hash)
        for one in before:
            await organisations.remove_admin_key(connection, actor.organisation_id, one.hash)
            await record(connection, actor, "admin_key.revoke", one.hash)
        session = await open_session(state, connection, actor.organisation_id, key.hash)
    return Rotated(key, secret, session)


async def revoke(database: Database, operator: Operator, organisation_id: str, key_hash: str) -> int:
    """Revokes an admin key, and returns the number of remaining ones.

    Without any, API keys keep working, but no one can change the organisation's knowledge bases and keys until the
    operator creates an admin key. Raises `OrganisationNotFound` and `KeyNotFound`.
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
