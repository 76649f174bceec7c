"""The organisation's own route."""

from fastapi import APIRouter, Response

from xtrace_core import wire
from xtrace_server.auth.guard import CONTROL, requires
from xtrace_server.http.answers import json_answer
from xtrace_server.http.described import describes
from xtrace_server.http.requests import ActorDep, StateDep
from xtrace_server.operations import organisations

router = APIRouter(prefix="/api/v1/organisation")


@router.get("")
@requires(CONTROL)
@describes(wire.Organisation)
async def get(state: StateDep, actor: ActorDep) -> Response:
    """Returns the organisation with its usage and quotas."""
    return json_answer(await organisations.get_own(state, actor))
