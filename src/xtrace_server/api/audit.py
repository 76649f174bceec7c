"""The audit log: what the control plane's routes write to it, and the route that reads it."""

from fastapi import APIRouter, Request, Response
from sqlalchemy.ext.asyncio import AsyncConnection

from xtrace_core import wire
from xtrace_server.auth.guard import CONTROL, AdminCaller, ApiCaller, requires
from xtrace_server.errors import PermissionDenied, ServiceError
from xtrace_server.http.answers import json_answer
from xtrace_server.http.described import Parameter, describes
from xtrace_server.http.requests import AdminCallerDep, StateDep, query_number
from xtrace_server.state import ServerState
from xtrace_server.storage import audit
from xtrace_server.storage.audit import Event

router = APIRouter(prefix="/api/v1/audit")

DEFAULT_LIMIT, MAX_LIMIT = 100, 1000
_MAX_ORGANISATION_ID = 64
_PAGE = (
    Parameter("limit", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT}),
    Parameter("before", {"type": "integer", "minimum": 1}),
)


@router.get("")
@requires(CONTROL)
@describes(list[wire.AuditEntry], *_PAGE)
async def newest(request: Request, state: StateDep, caller: AdminCallerDep) -> Response:
    """The newest entries of the organisation's audit log, or those before the id in `before`; the newest first."""
    limit = query_number(request, "limit", MAX_LIMIT) or DEFAULT_LIMIT
    before = query_number(request, "before", 2**63 - 1)
    await state.denials.write()
    async with state.database.read() as connection:
        entries = await audit.newest(connection, caller.organisation_id, before, limit)
    return json_answer([_shown(entry) for entry in entries])


async def record_change(
    connection: AsyncConnection, request: Request, caller: AdminCaller, action: str, subject: str, detail: str = ""
) -> None:
    """Writes down what the admin key's holder does, in the transaction that does it."""
    event = Event(
        action=action, actor=caller.key_hash, subject=subject, detail=detail, request_id=request.state.request_id
    )
    await audit.record(connection, caller.organisation_id, [event])


def record_denial(state: ServerState, request: Request, error: ServiceError) -> None:
    """Remembers for the audit log that a request was denied, if it named an organisation."""
    caller = getattr(request.state, "caller", None)
    organisation_id = request.path_params.get("org") or request.headers.get(wire.ORGANISATION_HEADER) or ""
    if not 0 < len(organisation_id) <= _MAX_ORGANISATION_ID:
        return
    route = getattr(request.scope.get("route"), "path", "")
    event = Event(
        action=f"denied.{error.code}",
        actor=caller.key.hash if isinstance(caller, ApiCaller) else "unknown",
        subject=error.kb_id if isinstance(error, PermissionDenied) else "",
        detail=f"{request.method} {route}",
    )
    state.denials.add(organisation_id, event)


def _shown(entry: audit.Entry) -> wire.AuditEntry:
    event = entry.event
    return wire.AuditEntry(
        entry.id, entry.at, event.action, event.actor, event.subject, event.detail, event.request_id, event.count
    )
