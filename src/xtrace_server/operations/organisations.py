"""The organisations of a server: what its operator does, on its host."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from xtrace_core.permissions import Permission
from xtrace_server.auth.guard import Actor
from xtrace_server.auth.issuing import new_api_key
from xtrace_server.auth.keys import hash_key, new_key
from xtrace_server.operations.audit import record
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


async def create(database: Database, name: str, deliver: Deliver | None = None) -> NewOrganisation:
    """Creates an organisation with an admin key, and an API key that may do everything in every knowledge base."""
    async with database.write() as connection:
        return await _created(connection, name, deliver)


async def create_first(database: Database, name: str, deliver: Deliver) -> bool:
    """Creates an organisation if there is none; returns whether it did."""
    async with database.write() as connection:
        if await organisations.list_all(connection):
            return False
        await _created(connection, name, deliver)
    return True


async def suspend(database: Database, organisation_id: str) -> Organisation:
    """Suspends an organisation: from now on none of its keys opens anything. One that is suspended stays so.

    Nothing is deleted. Raises `OrganisationNotFound`.
    """
    async with database.write(urgent=True) as connection:
        found = await organisations.get(connection, organisation_id)
        if found.suspended_at is None:
            await organisations.set_suspended(connection, organisation_id, now())
            await record(connection, Actor(organisation_id, "operator"), "organisation.suspend", organisation_id)
        return await organisations.get(connection, organisation_id)


async def resume(database: Database, organisation_id: str) -> Organisation:
    """Ends the suspension of an organisation; one that is not suspended stays so. Raises `OrganisationNotFound`."""
    async with database.write(urgent=True) as connection:
        found = await organisations.get(connection, organisation_id)
        if found.suspended_at is not None:
            await organisations.set_suspended(connection, organisation_id, None)
            await record(connection, Actor(organisation_id, "operator"), "organisation.resume", organisation_id)
        return await organisations.get(connection, organisation_id)


async def new_admin_key(database: Database, organisation_id: str) -> str:
    """Returns a further admin key of the organisation, which only the caller has. Raises `OrganisationNotFound`."""
    key = new_key()
    async with database.write(urgent=True) as connection:
        await organisations.get(connection, organisation_id)
        await organisations.add_admin_key(connection, organisation_id, hash_key(key))
        await record(connection, Actor(organisation_id, "operator"), "admin_key.create", hash_key(key))
    return key


async def list_all(database: Database) -> list[Organisation]:
    """Returns every organisation, the oldest first."""
    async with database.look_up() as connection:
        return await organisations.list_all(connection)


async def _created(connection: Connection, name: str, deliver: Deliver | None) -> NewOrganisation:
    admin_key = new_key()
    created = await organisations.create(connection, name, hash_key(admin_key))
    key, api_key = await new_api_key(connection, created.id, "default", "made with the organisation", Permission.DELETE)
    operator = Actor(created.id, "operator")
    await record(connection, operator, "organisation.create", created.id)
    await record(connection, operator, "api_key.create", key.hash, "permission 7 everywhere")
    new = NewOrganisation(created, admin_key, api_key)
    if deliver is not None:
        await asyncio.to_thread(deliver, new)
    return new
