"""The audit log of an organisation, and of the server as a whole."""

from collections.abc import AsyncIterator

from xtrace_core import wire
from xtrace_server.auth.guard import Actor
from xtrace_server.errors import OrganisationNotFound
from xtrace_server.state import ServerState
from xtrace_server.storage import audit
from xtrace_server.storage.audit import Entry as Entry
from xtrace_server.storage.audit import Event
from xtrace_server.storage.audit import Wanted as Wanted
from xtrace_server.storage.database import THE_SERVICE, Connection, Database

PAGE_ENTRIES = 50
_STEP = 1000


async def newest(state: ServerState, actor: Actor, before: int | None, limit: int) -> list[Entry]:
    """Returns the newest entries, or those with ids below `before`, newest first."""
    await state.denials.write()
    async with state.database.read(actor.organisation_id) as connection:
        return await audit.newest(connection, actor.organisation_id, before, limit)


async def newest_of(database: Database, organisation_id: str, before: int | None, limit: int) -> list[Entry]:
    """The same for the server's operator: the log of an organisation, even a deleted one, or of `THE_SERVICE`.

    Raises `OrganisationNotFound`.
    """
    async with database.look_up() as connection:
        if organisation_id != THE_SERVICE and not await audit.has_log(connection, organisation_id):
            raise OrganisationNotFound(organisation_id)
        return await audit.newest(connection, organisation_id, before, limit)


async def find(
    state: ServerState, actor: Actor, wanted: Wanted, before: int | None = None, limit: int = PAGE_ENTRIES
) -> list[Entry]:
    """Returns the newest matching entries, or those with ids below `before`, newest first."""
    await state.denials.write()
    async with state.database.read(actor.organisation_id) as connection:
        return await audit.find(connection, actor.organisation_id, wanted, before, limit)


async def every(state: ServerState, actor: Actor, wanted: Wanted) -> AsyncIterator[list[Entry]]:
    """Yields all matching entries in steps, newest first; no transaction stays open between steps."""
    before: int | None = None
    while step := await find(state, actor, wanted, before, _STEP):
        yield step
        before = step[-1].id


def shown(entry: Entry) -> wire.AuditEntry:
    """Returns an entry as answers contain it."""
    event = entry.event
    return wire.AuditEntry(
        entry.id, entry.at, event.action, event.actor, event.subject, event.detail, event.request_id, event.count
    )


async def record(connection: Connection, actor: Actor, action: str, subject: str, detail: str = "") -> None:
    """Writes an entry, in the transaction of what it records."""
    event = Event(action=action, actor=actor.name, subject=subject, detail=detail, request_id=actor.request_id)
    await audit.record(connection, actor.organisation_id, [event])
