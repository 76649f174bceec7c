"""The operator's pages: organisations and their usage, creating one, and the state of the server."""

from typing import Any, Final, cast

from fastapi import APIRouter, Request, Response

from xtrace_server.auth.guard import OPERATOR_SIGNED_IN, requires
from xtrace_server.dashboard import parameters
from xtrace_server.dashboard.failures import PageRoute
from xtrace_server.dashboard.forms import operator_of, read_form, read_once
from xtrace_server.dashboard.rendering import operator_page, query, seen_other
from xtrace_server.dashboard.words import sentence
from xtrace_server.errors import InvalidRequest
from xtrace_server.http import cookies
from xtrace_server.http.requests import state_of
from xtrace_server.operations import health, organisations, server, sessions
from xtrace_server.operations.organisations import PAGE_ORGANISATIONS, NewOrganisation

router = APIRouter(prefix="/operator", route_class=PageRoute, include_in_schema=False)

_DONE: Final = {
    "deleted": "Organisation deleted. Its keys no longer work, and its data is being removed.",
    "twice": "The form was sent twice. The organisation was created once; the first answer showed its keys.",
}
_SORTS: Final = ("chunks", "bytes", "requests", "name", "created")


@router.get("")
@requires(OPERATOR_SIGNED_IN)
async def list_all(request: Request) -> Response:
    """A page of the organisations, and the state of this server process."""
    return await _list(request)


@router.post("/organisations")
@requires(OPERATOR_SIGNED_IN)
async def create(request: Request) -> Response:
    """Creates an organisation, and shows its keys in the response itself: no address shows them again."""
    form, is_first = await read_once(request)
    if not is_first:
        return seen_other("/operator" + query(done="twice"))
    name = form.text("name").strip()
    try:
        new = await organisations.create(state_of(request).database, operator_of(request).operator, name)
    except InvalidRequest as error:
        return await _list(request, 422, sentence(error.detail), name[:1000])
    return await _list(request, created=new)


@router.post("/sessions/end-all")
@requires(OPERATOR_SIGNED_IN)
async def end_all(request: Request) -> Response:
    """Ends every session of the operator, including this one."""
    await read_form(request)
    await sessions.end_all(state_of(request), operator_of(request))
    response = seen_other("/operator/sign-in")
    cookies.delete_cookie(response, state_of(request).settings, cookies.OPERATOR)
    return response


async def _list(
    request: Request, status: int = 200, problem: str = "", name: str = "", created: NewOrganisation | None = None
) -> Response:
    state = state_of(request)
    await state.guard.request_counts.write()
    find = parameters.text(request, "find").strip()
    sorting = parameters.sorting(request, _SORTS, ("chunks", "bytes", "requests", "created"))
    found = await organisations.list_page(
        state.database, find, cast("Any", sorting.by), descending=sorting.descending, start=parameters.start(request)
    )
    return operator_page(
        request,
        "operator.html",
        status=status,
        totals=await organisations.totals(state.database),
        found=found.rows,
        find=find,
        sorting=sorting,
        pages=parameters.turning(request, found, [one.id for one in found.rows], PAGE_ORGANISATIONS),
        health=await health.measure(state),
        cache=server.cache(state),
        slow=server.slow_statements(state),
        slow_s=state.settings.slow_statement_s,
        versions=server.versions(state),
        sessions=await sessions.list_all(state, operator_of(request)),
        own=operator_of(request).session.hash,
        problem=problem,
        name=name,
        created=created,
        done=_DONE.get(parameters.text(request, "done"), ""),
    )
