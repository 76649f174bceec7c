"""The audit log of an organisation."""

from xtrace_server.auth.guard import Actor
from xtrace_server.state import ServerState
from xtrace_server.storage import audit
from xtrace_server.storage.audit import Entry, Event
from xtrace_server.storage.database import Connection


async def newest(state: ServerState, actor: Actor, before: int | None, limit: int) -> list[Entry]:
    """Returns the newest entries, or those with ids below `before`; the newest first."""
    await state.denials.write()
    async with state.database.read(actor.organisation_id) as connection:
        return await audit.newest(connection, actor.organisation_id, before, limit)


async def record(connection: Connection, actor: Actor, action: str, subject: str, detail: str = "") -> None:
    """Writes an entry, in the transaction of what it records."""
    event = Event(action=action, actor=actor.name, subject=subject, detail=detail, request_id=actor.request_id)
    await audit.record(connection, actor.organisation_id, [event])
