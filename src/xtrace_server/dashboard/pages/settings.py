"""The organisation's settings: ids, quotas, admin keys and sessions."""

from fastapi import APIRouter, Request, Response

from xtrace_server.auth.guard import SIGNED_IN, requires
from xtrace_server.dashboard import parameters
from xtrace_server.dashboard.failures import PageRoute
from xtrace_server.dashboard.forms import caller_of, read_form, read_once
from xtrace_server.dashboard.rendering import query, seen_other, signed_in_page
from xtrace_server.dashboard.words import sentence
from xtrace_server.errors import InvalidRequest, Unauthenticated
from xtrace_server.http import cookies
from xtrace_server.http.requests import client_address, state_of
from xtrace_server.operations import admin_keys, organisations, sessions
from xtrace_server.operations.admin_keys import Rotated

router = APIRouter(prefix="/settings", route_class=PageRoute, include_in_schema=False)

_DONE = {
    "ended": "Session ended.",
    "renamed": "Organisation renamed. Its ID stays the same.",
    "twice": "The form was sent twice. The admin key was rotated once.",
}


@router.get("")
@requires(SIGNED_IN)
async def show(request: Request) -> Response:
    """The settings of the organisation."""
    return await _show(request)


@router.post("/rename")
@requires(SIGNED_IN)
async def rename(request: Request) -> Response:
    """Renames the organisation."""
    form = await read_form(request)
    try:
        await organisations.rename_own(state_of(request), caller_of(request).actor, form.text("name").strip())
    except InvalidRequest as error:
        return await _show(request, 422, rename_problem=sentence(error.detail))
    return seen_other("/settings" + query(done="renamed"))


@router.post("/rotate")
@requires(SIGNED_IN)
async def rotate(request: Request) -> Response:
    """Rotates the admin key, and shows the new one in the response itself."""
    form, is_first = await read_once(request)
    if not is_first:
        return seen_other("/settings" + query(done="twice"))
    state, address = state_of(request), client_address(request)
    await state.sign_ins.check(address)
    try:
        rotated = await admin_keys.rotate_own(state, caller_of(request).actor, form.text("key").strip())
    except Unauthenticated:
        await state.sign_ins.fail(address)
        return await _show(request, 422, "This is not the admin key that you signed in with. Nothing was changed.")
    return await _rotated(request, rotated)


@router.post("/sessions/{session_hash}/end")
@requires(SIGNED_IN)
async def end(request: Request, session_hash: str) -> Response:
    """Ends one session of the organisation."""
    await read_form(request)
    await sessions.end(state_of(request), caller_of(request), session_hash)
    return seen_other("/settings" + query(done="ended"))


@router.post("/sessions/end-all")
@requires(SIGNED_IN)
async def end_all(request: Request) -> Response:
    """Ends every session of the organisation, including this one."""
    await read_form(request)
    await sessions.end_all(state_of(request), caller_of(request))
    response = seen_other("/sign-in")
    cookies.delete_cookie(response, state_of(request).settings, cookies.SESSION)
    return response


async def _rotated(request: Request, rotated: Rotated) -> Response:
    """Returns the page for the session that the rotation opened: the old one has ended."""
    state = state_of(request)
    request.state.caller = await state.sessions.signed_in(rotated.session.token, request.state.request_id)
    request.state.form_secret = rotated.session.token
    response = await _show(request, rotated=rotated)
    cookies.set_cookie(response, state.settings, cookies.SESSION, rotated.session.token)
    return response


async def _show(
    request: Request, status: int = 200, problem: str = "", rename_problem: str = "", rotated: Rotated | None = None
) -> Response:
    state, caller = state_of(request), caller_of(request)
    await state.guard.request_counts.write()
    return await signed_in_page(
        request,
        "settings.html",
        status=status,
        shown=await organisations.get_own(state, caller.actor),
        admin_keys=await admin_keys.list_own(state, caller.actor),
        sessions=await sessions.list_all(state, caller),
        own=caller,
        problem=problem,
        rename_problem=rename_problem,
        rotated=rotated,
        done=_DONE.get(parameters.text(request, "done"), ""),
    )
