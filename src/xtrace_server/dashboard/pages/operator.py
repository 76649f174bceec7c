"""The operator's pages: organisations and their usage, and how the server does."""

from typing import Any

from fastapi import APIRouter, Request, Response

from xtrace_core import wire
from xtrace_server.auth.guard import OPERATOR_SIGNED_IN, requires
from xtrace_server.dashboard import parameters
from xtrace_server.dashboard.failures import PageRoute
from xtrace_server.dashboard.forms import operator_of, read_form
from xtrace_server.dashboard.parameters import Pages
from xtrace_server.dashboard.rendering import page, query, seen_other, session_end
from xtrace_server.http import cookies
from xtrace_server.http.requests import state_of
from xtrace_server.operations import health, organisations, server, sessions

router = APIRouter(prefix="/operator", route_class=PageRoute, include_in_schema=False)

_PAGE_ORGANISATIONS = 25
_DONE = {"suspended": "Organisation suspended.", "resumed": "Organisation resumed."}
_SORTS: dict[str, Any] = {
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
    state = state_of(request)
    await state.guard.request_counts.write()
    everything = await organisations.list_shown(state.database)
    find = parameters.text(request, "find").strip()
    found = [one for one in everything if find.casefold() in one.name.casefold() or one.id.startswith(find)]
    sorting = parameters.sorting(request, tuple(_SORTS), ("chunks", "bytes", "requests", "created"))
    found.sort(key=_SORTS[sorting.by], reverse=sorting.descending)
    pages = Pages(parameters.number(request, "page", 1), _PAGE_ORGANISATIONS, len(found))
    return _page(
        request,
        "operator.html",
        everything=everything,
        found=found[max(pages.first - 1, 0) : pages.last],
        find=find,
        sorting=sorting,
        pages=pages,
        health=await health.check(state),
        cache=server.cache(state),
        slow=server.slow_statements(state),
        slow_s=state.settings.slow_statement_s,
        versions=server.versions(state),
        sessions=await sessions.list_all(state, operator_of(request)),
        own=operator_of(request).session.hash,
    )


@router.get("/organisations/{organisation_id}")
@requires(OPERATOR_SIGNED_IN)
async def show(request: Request, organisation_id: str) -> Response:
    """One organisation with its usage and quotas."""
    state = state_of(request)
    await state.guard.request_counts.write()
    return _organisation(request, await organisations.get_shown(state.database, organisation_id))


@router.post("/organisations/{organisation_id}/suspend")
@requires(OPERATOR_SIGNED_IN)
async def suspend(request: Request, organisation_id: str) -> Response:
    """Suspends an organisation whose ID was typed."""
    form, state = await read_form(request), state_of(request)
    shown = await organisations.get_shown(state.database, organisation_id)
    if form.text("confirm").strip() != organisation_id:
        return _organisation(request, shown, 422, "This is not the ID. Nothing was changed.")
    await organisations.suspend(state.database, operator_of(request).operator, organisation_id)
    return seen_other(f"/operator/organisations/{organisation_id}" + query(done="suspended"))


@router.post("/organisations/{organisation_id}/resume")
@requires(OPERATOR_SIGNED_IN)
async def resume(request: Request, organisation_id: str) -> Response:
    """Ends the suspension of an organisation."""
    await read_form(request)
    await organisations.resume(state_of(request).database, operator_of(request).operator, organisation_id)
    return seen_other(f"/operator/organisations/{organisation_id}" + query(done="resumed"))


@router.post("/sessions/end-all")
@requires(OPERATOR_SIGNED_IN)
async def end_all(request: Request) -> Response:
    """Ends every session of the operator, this one too."""
    await read_form(request)
    await sessions.end_all(state_of(request), operator_of(request))
    response = seen_other("/operator/sign-in")
    cookies.delete_cookie(response, state_of(request).settings, cookies.OPERATOR)
    return response


def _organisation(request: Request, shown: wire.Organisation, status: int = 200, problem: str = "") -> Response:
    done = _DONE.get(parameters.text(request, "done"), "")
    return _page(request, "operator-organisation.html", status=status, shown=shown, problem=problem, done=done)


def _page(request: Request, template: str, **values: Any) -> Response:
    return page(request, template, ends_at=session_end(request, operator_of(request)), **values)
