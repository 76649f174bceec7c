"""The audit log."""

from fastapi import APIRouter, Request, Response

from xtrace_core import wire
from xtrace_server.auth.guard import CONTROL, requires
from xtrace_server.http.answers import json_answer
from xtrace_server.http.described import Parameter, describes
from xtrace_server.http.requests import ActorDep, StateDep, query_number
from xtrace_server.operations import audit

router = APIRouter(prefix="/api/v1/audit")

DEFAULT_LIMIT, MAX_LIMIT = 100, 1000
PAGE = (
    Parameter("limit", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT}),
    Parameter("before", {"type": "integer", "minimum": 1}),
)


@router.get("")
@requires(CONTROL)
@describes(list[wire.AuditEntry], *PAGE)
async def newest(request: Request, state: StateDep, actor: ActorDep) -> Response:
    """The newest entries of the organisation's audit log, or those before the id in `before`, newest first."""
    limit, before = page_of(request)
    return json_answer([audit.shown(entry) for entry in await audit.newest(state, actor, before, limit)])


def page_of(request: Request) -> tuple[int, int | None]:
    """Returns the requested number of entries, and the id before which they are. Raises `InvalidRequest`."""
    return query_number(request, "limit", MAX_LIMIT) or DEFAULT_LIMIT, query_number(request, "before", 2**63 - 1)
