"""The organisations of a server: what its operator does."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from xtrace_core.permissions import Permission
from xtrace_core.wire import MAX_ORGANISATION_NAME
from xtrace_server.auth.guard import ON_THE_HOST, Operator
from xtrace_server.auth.issuing import new_api_key
from xtrace_server.auth.keys import hash_key, new_key
from xtrace_server.errors import InvalidRequest
from xtrace_server.operations.audit import record
from xtrace_server.operations.writing import operating
from xtrace_server.storage import organisations
from xtrace_server.storage.database import Connection, Database, now
from xtrace_server.storage.organisations import Organisation


@dataclass(frozen=True, slots=True, repr=False)
class NewOrganisation:
    """A new organisation with its first keys, which only the caller has."""

    organisation: Organisation
    admin_key: str
    api_key: str


Deliver: TypeAlias = Callable[[NewOrganisation], None]
"""Hands the keys over before the database knows them, in a thread; if it raises, nothing was created."""


async def create(database: Database, operator: Operator, name: str, deliver: Deliver | None = None) -> NewOrganisation:
    """Creates an organisation with an admin key, and an API key that may do everything in every knowledge base.

    Raises `InvalidRequest` for a name that is empty or longer than 256 characters.
    """
    if not 0 < len(name) <= MAX_ORGANISATION_NAME:
        raise InvalidRequest(f"the name has {len(name)} characters, expected 1 to {MAX_ORGANISATION_NAME}")
    async with operating(database, operator) as connection:
        return await _created(connection, operator, name, deliver)


async def create_first(database: Database, name: str, deliver: Deliver) -> bool:
    """Creates an organisation if there is none; returns whether it did."""
    async with operating(database, ON_THE_HOST) as connection:
        if await organisations.list_all(connection):
            return False
        await _created(connection, ON_THE_HOST, name, deliver)
    return True


async def suspend(database: Database, operator: Operator, organisation_id: str) -> Organisation:
    """Suspends an organisation: from now on none of its keys opens anything. One that is suspended stays so.

    Nothing is deleted. Raises `OrganisationNotFound`.
    """
    async with operating(database, operator) as connection:
        found = await organisations.get(connection, organisation_id)
        if found.suspended_at is None:
            await organisations.set_suspended(connection, organisation_id, now())
            await record(connection, operator.to(organisation_id), "organisation.suspend", organisation_id)
        return await organisations.get(connection, organisation_id)


async def resume(database: Database, operator: Operator, organisation_id: str) -> Organisation:
    """Ends the suspension of an organisation; one that is not suspended stays so. Raises `OrganisationNotFound`."""
    async with operating(database, operator) as connection:
        found = await organisations.get(connection, organisation_id)
        if found.suspended_at is not None:
            await organisations.set_suspended(connection, organisation_id, None)
            await record(connection, operator.to(organisation_id), "organisation.resume", organisation_id)
        return await organisations.get(connection, organisation_id)


async def list_all(database: Database) -> list[Organisation]:
    """Returns every organisation, the oldest first."""
    async with database.look_up() as connection:
        return await organisations.list_all(connection)


async def get(database: Database, organisation_id: str) -> Organisation:
    """Returns one organisation. Raises `OrganisationNotFound`."""
    async with database.look_up() as connection:
        return await organisations.get(connection, organisation_id)


async def _created(connection: Connection, operator: Operator, name: str, deliver: Deliver | None) -> NewOrganisation:
    admin_key = new_key()
    created = await organisations.create(connection, name, hash_key(admin_key))
    key, api_key = await new_api_key(connection, created.id, "default", "made with the organisation", Permission.DELETE)
    actor = operator.to(created.id)
    await record(connection, actor, "organisation.create", created.id)
    await record(connection, actor, "api_key.create", key.hash, "permission 7 everywhere")
    new = NewOrganisation(created, admin_key, api_key)
    if deliver is not None:
        await asyncio.to_thread(deliver, new)
    return new
