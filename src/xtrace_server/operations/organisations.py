"""The organisations of a server, for its operator."""

import asyncio
from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import TypeAlias

from msgspec import UNSET

from xtrace_core import wire
from xtrace_core.permissions import Permission
from xtrace_core.wire import MAX_ORGANISATION_NAME
from xtrace_server.auth.guard import ON_THE_HOST, Actor, Operator
from xtrace_server.auth.issuing import new_api_key
from xtrace_server.auth.keys import hash_key, new_key
from xtrace_server.errors import InvalidRequest
from xtrace_server.operations.audit import record
from xtrace_server.operations.paging import Listed, Start, page_of, replace_rows
from xtrace_server.operations.writing import operating, repeatable, writing
from xtrace_server.state import ServerState
from xtrace_server.storage import organisation_deletion, organisations, usage
from xtrace_server.storage.database import THE_SERVICE, Connection, Database, now
from xtrace_server.storage.organisations import STAGING_PREFIX, Organisation, OrganisationSort, Totals

PAGE_ORGANISATIONS = 25


@dataclass(frozen=True, slots=True, repr=False)
class NewOrganisation:
    """A new organisation with its first keys, which only the caller has."""

    organisation: Organisation
    admin_key: str
    api_key: str


Deliver: TypeAlias = Callable[[NewOrganisation], None]
"""Delivers the keys in a thread, before the database knows them; if it raises, nothing is created."""


async def create(database: Database, operator: Operator, name: str, deliver: Deliver | None = None) -> NewOrganisation:
    """Creates an organisation with an admin key, and an API key with full access to every knowledge base.

    Raises `InvalidRequest` for a name that is empty or longer than 256 characters.
    """
    _check_name(name)
    async with operating(database, operator) as connection:
        return await _created(connection, operator, name, deliver)


async def create_first(database: Database, name: str, deliver: Deliver) -> bool:
    """Creates an organisation if there never was one; returns whether it did. Several servers may start at once."""
    async with operating(database, ON_THE_HOST) as connection:
        if await organisations.there_was_any(connection):
            return False
        await _created(connection, ON_THE_HOST, name, deliver)
    return True


async def suspend(database: Database, operator: Operator, organisation_id: str) -> wire.Organisation:
    """Suspends an organisation: its keys stop working. A suspended one stays suspended.

    Nothing is deleted. Raises `OrganisationNotFound`.
    """
    async with operating(database, operator) as connection:
        found = await organisations.get(connection, organisation_id)
        if found.suspended_at is None:
            await organisations.set_suspended(connection, organisation_id, now())
            await record(connection, operator.to(organisation_id), "organisation.suspend", organisation_id)
        return await _get_shown(connection, organisation_id)


async def resume(database: Database, operator: Operator, organisation_id: str) -> wire.Organisation:
    """Ends the suspension of an organisation, if it is suspended. Raises `OrganisationNotFound`."""
    async with operating(database, operator) as connection:
        found = await organisations.get(connection, organisation_id)
        if found.suspended_at is not None:
            await organisations.set_suspended(connection, organisation_id, None)
            await record(connection, operator.to(organisation_id), "organisation.resume", organisation_id)
        return await _get_shown(connection, organisation_id)


async def delete(database: Database, operator: Operator, organisation_id: str) -> None:
    """Deletes an organisation with all its data: its keys stop working, and its rows are deleted in steps.

    Its audit log stays. A server on the database does the deletion, now or at its next start. Raises
    `OrganisationNotFound`.
    """
    async with operating(database, operator) as connection:
        await organisations.claim(connection, organisation_id)
        found = await organisations.get(connection, organisation_id)
        stored = f"{found.stored.chunks} chunks, {found.stored.contexts} contexts"
        await organisation_deletion.mark(connection, organisation_id)
        # In both logs: only the server's own shows which organisations existed.
        for log in (organisation_id, THE_SERVICE):
            await record(connection, operator.to(log), "organisation.delete", organisation_id, stored)


async def rename(database: Database, operator: Operator, organisation_id: str, name: str) -> None:
    """Renames an organisation; its id stays. Raises `OrganisationNotFound` and `InvalidRequest`."""
    _check_name(name)
    async with operating(database, operator) as connection:
        await organisations.get(connection, organisation_id)
        await organisations.rename(connection, organisation_id, name)
        await record(connection, operator.to(organisation_id), "organisation.rename", organisation_id)


@repeatable
async def rename_own(state: ServerState, actor: Actor, name: str) -> None:
    """Renames the caller's organisation; its id stays. Raises `InvalidRequest`."""
    _check_name(name)
    async with writing(state, actor) as connection:
        await organisations.rename(connection, actor.organisation_id, name)
        await record(connection, actor, "organisation.rename", actor.organisation_id)


async def list_ids(database: Database) -> list[str]:
    """Returns the ids of the organisations that can have keys, oldest first."""
    async with database.look_up() as connection:
        found = await organisations.list_all(connection)
    return [one.id for one in found if one.deleted_at is None and not one.id.startswith(STAGING_PREFIX)]


async def list_shown(database: Database) -> list[wire.Organisation]:
    """Returns every organisation with its usage and quotas, oldest first, including those being deleted."""
    async with database.look_up() as connection:
        found = await organisations.list_all(connection)
        counts = await organisations.knowledge_base_counts(connection)
    return [_shown(one, counts.get(one.id, 0)) for one in found]


async def list_page(
    database: Database, find: str, sort_by: OrganisationSort, *, descending: bool, start: Start | None = None
) -> Listed[wire.Organisation]:
    """Returns one page of the organisations with their usage and quotas; without `start` the first one.

    `find` is a part of the name, or the beginning of the ID; empty for all. Those being deleted are there too.
    """
    listed = organisations.listed(find=find, sort_by=sort_by)
    async with database.look_up() as connection:
        found = await page_of(connection, listed, start, PAGE_ORGANISATIONS, descending=descending)
        counts = await organisations.knowledge_base_counts(connection, [one.id for one in found.rows])
    return replace_rows(found, [_shown(one, counts.get(one.id, 0)) for one in found.rows])


async def totals(database: Database) -> Totals:
    """Returns what all organisations have together."""
    async with database.look_up() as connection:
        return await organisations.totals(connection)


async def get_shown(database: Database, organisation_id: str) -> wire.Organisation:
    """Returns one organisation with its usage and quotas. Raises `OrganisationNotFound`."""
    async with database.look_up() as connection:
        return await _get_shown(connection, organisation_id)


async def get_own(state: ServerState, actor: Actor) -> wire.Organisation:
    """Returns the caller's organisation; its latest requests may not be counted yet."""
    async with state.database.read(actor.organisation_id) as connection:
        return await _get_shown(connection, actor.organisation_id)


async def set_quotas(
    database: Database, operator: Operator, organisation_id: str, change: wire.SetQuotas
) -> wire.Organisation:
    """Changes quotas of an organisation, and returns it. Existing data stays, even if it exceeds them.

    Raises `OrganisationNotFound`.
    """
    changed = {name: value for name in change.__struct_fields__ if (value := getattr(change, name)) is not UNSET}
    async with operating(database, operator) as connection:
        await organisations.get(connection, organisation_id)
        if changed:
            await usage.set_quotas(connection, organisation_id, changed)
            said = ", ".join(f"{name} {'none' if value is None else value}" for name, value in changed.items())
            await record(connection, operator.to(organisation_id), "organisation.quotas", organisation_id, said)
        return await _get_shown(connection, organisation_id)


async def _get_shown(connection: Connection, organisation_id: str) -> wire.Organisation:
    found = await organisations.get(connection, organisation_id)
    return _shown(found, (await organisations.knowledge_base_counts(connection, [organisation_id])).get(found.id, 0))


def _check_name(name: str) -> None:
    if not 0 < len(name) <= MAX_ORGANISATION_NAME:
        raise InvalidRequest(f"the name has {len(name)} characters, expected 1 to {MAX_ORGANISATION_NAME}")


def _state(one: Organisation) -> wire.OrganisationState:
    if one.id.startswith(STAGING_PREFIX):
        return "importing"
    if one.deleted_at is not None:
        return "deleting"
    return "active" if one.suspended_at is None else "suspended"


def _shown(one: Organisation, knowledge_bases: int) -> wire.Organisation:
    in_minute, in_day = one.requests.within(usage.now_s())
    stored = one.stored
    return wire.Organisation(
        one.id,
        one.name,
        _state(one),
        one.created_at,
        one.suspended_at,
        wire.Usage(stored.chunks, stored.bytes, stored.contexts, knowledge_bases, in_minute, in_day),
        wire.Quotas(*astuple(one.quotas)),
        UNSET if one.deleted_at is None else one.deleted_at,
    )


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
