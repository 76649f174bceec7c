"""The audit log."""

from fastapi import APIRouter, Request, Response

from xtrace_core import wire
from xtrace_server.auth.guard import CONTROL, requires
from xtrace_server.http.answers import json_answer
from xtrace_server.http.described import Parameter, describes
from xtrace_server.http.requests import ActorDep, StateDep, query_number
from xtrace_server.operations import audit
from xtrace_server.storage.audit import Entry

router = APIRouter(prefix="/api/v1/audit")

DEFAULT_LIMIT, MAX_LIMIT = 100, 1000
_PAGE = (
    Parameter("limit", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT}),
    Parameter("before", {"type": "integer", "minimum": 1}),
)


@router.get("")
@requires(CONTROL)
@describes(list[wire.AuditEntry], *_PAGE)
async def newest(request: Request, state: StateDep, actor: ActorDep) -> Response:
    """The newest entries of the organisation's audit log, or those before the id in `before`; the newest first."""
    limit = query_number(request, "limit", MAX_LIMIT) or DEFAULT_LIMIT
    before = query_number(request, "before", 2**63 - 1)
    return json_answer([_shown(entry) for entry in await audit.newest(state, actor, before, limit)])


def _shown(entry: Entry) -> wire.AuditEntry:
    event = entry.event
    return wire.AuditEntry(
        entry.id, entry.at, event.action, event.actor, event.subject, event.detail, event.request_id, event.count
    )
