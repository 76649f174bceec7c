"""Signing in and out, for administrators of organisations and for the operator; and the theme."""

import re
from collections.abc import Awaitable, Callable
from typing import Final

from fastapi import APIRouter, Request, Response

from xtrace_server.auth.guard import OPERATOR_SIGNED_IN, SIGNED_IN, VISITOR, requires
from xtrace_server.dashboard.failures import PageRoute
from xtrace_server.dashboard.forms import caller_of, operator_of, read_form
from xtrace_server.dashboard.rendering import THEMES, page, seen_other
from xtrace_server.dashboard.words import sentence
from xtrace_server.errors import InvalidRequest, NotFound, OrganisationSuspended, RateLimited, Unauthenticated
from xtrace_server.http import cookies
from xtrace_server.http.requests import client_address, state_of
from xtrace_server.operations import sessions
from xtrace_server.operations.sessions import NewSession

router = APIRouter(route_class=PageRoute, include_in_schema=False)

_OWN_PATH: Final = re.compile(r"/(?![/\\])[A-Za-z0-9._~/?=&%+-]{0,1000}")


@router.get("/sign-in")
@requires(VISITOR)
async def form(request: Request) -> Response:
    """The form for signing in to an organisation."""
    return _form(request, "sign-in.html", following=request.query_params.get("next", ""))


@router.post("/sign-in")
@requires(VISITOR)
async def sign_in(request: Request) -> Response:
    """Opens a session for an organisation ID and an admin key."""
    sent, state = await read_form(request), state_of(request)
    organisation_id, key = sent.text("organisation").strip(), sent.text("key").strip()

    async def enter() -> NewSession:
        return await sessions.sign_in(state, organisation_id, key, request.state.request_id)

    try:
        new = await _limited(request, enter)
    except Unauthenticated:
        problem = "The organisation ID or the admin key is not correct."
    except (OrganisationSuspended, RateLimited) as error:
        problem = sentence(error.detail)
    else:
        return _entered(request, cookies.SESSION, new, _own_path(sent.text("next")) or "/")
    return _form(request, "sign-in.html", 401, sent.text("next"), problem, organisation_id)


@router.post("/sign-out")
@requires(SIGNED_IN)
async def sign_out(request: Request) -> Response:
    """Ends the session."""
    await read_form(request)
    await sessions.sign_out(state_of(request), caller_of(request))
    return _left(request, cookies.SESSION, "/sign-in")


@router.get("/operator/sign-in")
@requires(VISITOR)
async def operator_form(request: Request) -> Response:
    """The form for signing in as operator."""
    _check_operator_api(request)
    return _form(request, "operator-sign-in.html", following=request.query_params.get("next", ""))


@router.post("/operator/sign-in")
@requires(VISITOR)
async def operator_sign_in(request: Request) -> Response:
    """Opens a session for the operator key."""
    _check_operator_api(request)
    sent, state = await read_form(request), state_of(request)

    async def enter() -> NewSession:
        return await sessions.sign_in_operator(state, sent.text("key").strip(), request.state.request_id)

    try:
        new = await _limited(request, enter)
    except Unauthenticated:
        problem = "The operator key is not correct."
    except RateLimited as error:
        problem = sentence(error.detail)
    else:
        return _entered(request, cookies.OPERATOR, new, _own_path(sent.text("next")) or "/operator")
    return _form(request, "operator-sign-in.html", 401, sent.text("next"), problem)


@router.post("/operator/sign-out")
@requires(OPERATOR_SIGNED_IN)
async def operator_sign_out(request: Request) -> Response:
    """Ends the operator's session."""
    await read_form(request)
    await sessions.sign_out(state_of(request), operator_of(request))
    return _left(request, cookies.OPERATOR, "/operator/sign-in")


@router.post("/theme")
@requires(VISITOR)
async def theme(request: Request) -> Response:
    """Stores the chosen theme in a cookie."""
    sent = await read_form(request)
    chosen = sent.text("theme")
    if chosen not in THEMES:
        raise InvalidRequest(f"got the theme {chosen[:20]!r}, expected one of {', '.join(THEMES)}")
    response = seen_other(_own_path(sent.text("next")) or "/")
    cookies.set_cookie(response, state_of(request).settings, cookies.THEME, chosen)
    return response


def _form(
    request: Request,
    template: str,
    status: int = 200,
    following: str = "",
    problem: str = "",
    organisation_id: str = "",
) -> Response:
    values = {"next": _own_path(following), "problem": problem, "organisation_id": organisation_id[:200]}
    return page(request, template, status=status, ended=False, lost=False, **values)


async def _limited(request: Request, enter: Callable[[], Awaitable[NewSession]]) -> NewSession:
    """Signs in unless too many attempts from the address have failed; counts failures."""
    sign_ins, address = state_of(request).sign_ins, client_address(request)
    await sign_ins.check(address)
    try:
        return await enter()
    except (Unauthenticated, OrganisationSuspended):
        await sign_ins.fail(address)
        raise


def _entered(request: Request, cookie: str, new: NewSession, following: str) -> Response:
    response = seen_other(following)
    cookies.set_cookie(response, state_of(request).settings, cookie, new.token)
    return response


def _left(request: Request, cookie: str, following: str) -> Response:
    response = seen_other(following)
    cookies.delete_cookie(response, state_of(request).settings, cookie)
    return response


def _own_path(text: str) -> str:
    """Returns the path if it is on this server, otherwise an empty text: no link leads elsewhere after signing in."""
    return text if _OWN_PATH.fullmatch(text) else ""


def _check_operator_api(request: Request) -> None:
    if not state_of(request).settings.operator_api:
        raise NotFound("the operator's pages are disabled: see the setting operator_api")
