"""The operator's pages: organisations and their usage, creating one, and how the server does."""

from typing import Any, Final

from fastapi import APIRouter, Request, Response

from xtrace_server.auth.guard import OPERATOR_SIGNED_IN, requires
from xtrace_server.dashboard import parameters
from xtrace_server.dashboard.failures import PageRoute
from xtrace_server.dashboard.forms import operator_of, read_form, read_once
from xtrace_server.dashboard.parameters import Pages
from xtrace_server.dashboard.rendering import operator_page, query, seen_other
from xtrace_server.dashboard.words import sentence
from xtrace_server.errors import InvalidRequest
from xtrace_server.http import cookies
from xtrace_server.http.requests import state_of
from xtrace_server.operations import health, organisations, server, sessions
from xtrace_server.operations.organisations import NewOrganisation

router = APIRouter(prefix="/operator", route_class=PageRoute, include_in_schema=False)

_PAGE_ORGANISATIONS: Final = 25
_DONE: Final = {
    "deleted": "Organisation deleted. Its keys open nothing any more, and its data is being removed.",
    "twice": "The form was sent twice. The organisation was created once; the first answer showed its keys.",
}
_SORTS: Final[dict[str, Any]] = {
    "chunks": lambda one: one.usage.chunks,
    "bytes": lambda one: one.usage.bytes,
    "requests": lambda one: one.usage.requests_today,
    "name": lambda one: one.name.casefold(),
    "created": lambda one: one.created_at,
}


@router.get("")
@requires(OPERATOR_SIGNED_IN)
async def list_all(request: Request) -> Response:
    """The organisations, and how this server process does."""
    return await _list(request)


@router.post("/organisations")
@requires(OPERATOR_SIGNED_IN)
async def create(request: Request) -> Response:
    """Creates an organisation, and shows its keys in the answer itself: no address shows them again."""
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
    """Ends every session of the operator, this one too."""
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
    everything = await organisations.list_shown(state.database)
    find = parameters.text(request, "find").strip()
    found = [one for one in everything if find.casefold() in one.name.casefold() or one.id.startswith(find)]
    sorting = parameters.sorting(request, tuple(_SORTS), ("chunks", "bytes", "requests", "created"))
    found.sort(key=_SORTS[sorting.by], reverse=sorting.descending)
    pages = Pages(parameters.number(request, "page", 1), _PAGE_ORGANISATIONS, len(found))
    return operator_page(
        request,
        "operator.html",
        status=status,
        everything=everything,
        found=found[max(pages.first - 1, 0) : pages.last],
        find=find,
        sorting=sorting,
        pages=pages,
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
