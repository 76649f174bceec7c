"""Turns requests into typed values: callers, query parameters, scopes. Rejects values that are not valid.

Bodies are read by `xtrace_server.http.bodies`.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Final, Protocol, TypeAlias, cast

from fastapi import Depends, Request

from xtrace_core.metadata_filter import InvalidFilter, parse_chosen_filter, parse_filter
from xtrace_core.wire import IDEMPOTENCY_KEY_HEADER, MAX_BLOCK_ID
from xtrace_server.auth.guard import PUBLIC, READER, Actor, ApiCaller, Operator, Plane, rule_of
from xtrace_server.deadline import only_read
from xtrace_server.errors import FilterRefused, InvalidRequest, NotFound, TooLarge
from xtrace_server.http import cookies
from xtrace_server.http.envelope import is_ops
from xtrace_server.limits.in_flight import RunningRequest
from xtrace_server.limits.sizes import check_count
from xtrace_server.scope import SearchScope
from xtrace_server.settings import Settings
from xtrace_server.state import ServerState

MAX_IDEMPOTENCY_KEY = 255
_MAX_ID_DIGITS = 40


def state_of(request: Request) -> ServerState:
    """Returns the server's state."""
    return cast("ServerState", request.app.state.server)


async def check_port(request: Request) -> None:
    """Runs before every route: the second port serves only public routes. Raises `NotFound`."""
    if is_ops(state_of(request).settings, request.scope) and rule_of(request.scope["route"].endpoint) != PUBLIC:
        raise NotFound(f"unknown route {request.url.path[:128]}: this port is for probes and metrics (ops_port)")
    _check_dashboard_port(request)


def _check_dashboard_port(request: Request) -> None:
    """The dashboard's port, if set, serves only the dashboard, and no other port serves it."""
    wanted, server = state_of(request).settings.dashboard_port, request.scope.get("server")
    if wanted is None or server is None:
        return
    is_page = rule_of(request.scope["route"].endpoint).plane.is_page
    if is_page != (server[1] == wanted):
        only = "the dashboard has a separate port" if is_page else "this port is for the dashboard"
        raise NotFound(f"unknown route {request.url.path[:128]}: {only} (dashboard_port)")


async def check_caller(request: Request) -> None:
    """Runs before every route: stores the required caller in `request.state.caller`, or raises."""
    rule = rule_of(request.scope["route"].endpoint)
    state = state_of(request)
    guard = state.guard
    if "\0" in request.scope["path"]:
        raise InvalidRequest("the path contains a NUL character, which is not allowed")
    if rule == READER:
        only_read()
    if rule.plane is Plane.DATA:
        request.state.caller = await guard.api_caller(request.headers, request.path_params["org"], rule)
    elif rule.plane is Plane.CONTROL:
        request.state.caller = await guard.actor(request.headers, request.state.request_id)
    elif rule.plane is Plane.OPERATOR:
        if not state.settings.operator_api:
            raise NotFound(f"unknown route {request.url.path[:128]}: see the setting operator_api")
        request.state.caller = await guard.operator(request.headers, request.state.request_id)
    elif rule.plane is Plane.SESSION:
        token = cookies.read_cookie(request, state.settings, cookies.SESSION)
        request.state.caller = await state.sessions.signed_in(
            token, request.state.request_id, is_use=not is_poll(request)
        )
    elif rule.plane is Plane.OPERATOR_SESSION:
        if not state.settings.operator_api:
            raise NotFound(f"unknown route {request.url.path[:128]}: see the setting operator_api")
        token = cookies.read_cookie(request, state.settings, cookies.OPERATOR)
        request.state.caller = await state.sessions.operator(
            token, request.state.request_id, is_use=not is_poll(request)
        )
    if rule.plane not in (Plane.PUBLIC, Plane.VISITOR):
        request.state.running = state.in_flight.enter(request.state.caller.organisation_id)


CHECKS: Final = (check_port, check_caller)
"""What runs before every route, in this order."""


def client_address(request: Request) -> str:
    """Returns the client's address; behind a proxy of the dashboard, the one that the proxy names."""
    forwarded = request.headers.get("x-forwarded-for", "")
    if forwarded and state_of(request).settings.dashboard_behind_tls:
        # The last one is the proxy's; the client may have written the others.
        return forwarded.rpartition(",")[2].strip()
    return request.client.host if request.client is not None else ""


def is_poll(request: Request) -> bool:
    """Returns whether a page of the dashboard refreshes itself, perhaps without a person in front of it."""
    return "hx-request" in request.headers


# Dependencies are coroutines: FastAPI calls plain functions in a thread.


async def _state(request: Request) -> ServerState:
    return state_of(request)


async def _running(request: Request) -> RunningRequest:
    return running_of(request)


async def _api_caller(request: Request) -> ApiCaller:
    return cast("ApiCaller", request.state.caller)


def running_of(request: Request) -> RunningRequest:
    """Returns the running request, which counts towards the limits and reserves memory."""
    return cast("RunningRequest", request.state.running)


async def _actor(request: Request) -> Actor:
    return cast("Actor", request.state.caller)


async def _operator(request: Request) -> Operator:
    return cast("Operator", request.state.caller)


StateDep: TypeAlias = Annotated[ServerState, Depends(_state)]
RunningDep: TypeAlias = Annotated[RunningRequest, Depends(_running)]
ApiCallerDep: TypeAlias = Annotated[ApiCaller, Depends(_api_caller)]
ActorDep: TypeAlias = Annotated[Actor, Depends(_actor)]
OperatorDep: TypeAlias = Annotated[Operator, Depends(_operator)]


class _Scoped(Protocol):
    """A body with a scope; only searches also have an `id_range`, and may be `unsealed`."""

    kb_id: str
    context_id: str
    meta_filter: Any


def scope_of(settings: Settings, body: _Scoped, *, chosen: bool = False) -> SearchScope:
    """Parses the scope of a request; `chosen` requires a filter that is not null. Raises `FilterRefused`."""
    parse = parse_chosen_filter if chosen else parse_filter
    try:
        filter_ = parse(body.meta_filter, settings.filter_limits)
    except InvalidFilter as error:
        raise FilterRefused(str(error)) from None
    return SearchScope(
        kb_id=body.kb_id,
        context_id=body.context_id,
        filter=filter_,
        id_range=getattr(body, "id_range", None),
        unsealed=getattr(body, "unsealed", False),
    )


def query_string(request: Request, name: str) -> str:
    """Returns a query parameter that must be given once. Raises `InvalidRequest`."""
    values = request.query_params.getlist(name)
    if len(values) != 1 or not values[0]:
        raise InvalidRequest(f"got the query parameter {name} {len(values)} times, expected once and not empty")
    _check_text(name, values[0])
    return values[0]


def query_optional(request: Request, name: str) -> str | None:
    """Returns a query parameter that may be given once; None if it is missing. Raises `InvalidRequest`."""
    return query_string(request, name) if name in request.query_params else None


def query_strings(request: Request, name: str) -> list[str]:
    """Returns the values of a repeated query parameter. Raises `InvalidRequest`."""
    values = request.query_params.getlist(name)
    for value in values:
        _check_text(name, value)
    return values


def query_chunk_ids(request: Request) -> list[int]:
    """Returns the query's `chunk_ids` in order, without duplicates.

    Raises `InvalidRequest` and `TooLarge`.
    """
    check_count(state_of(request).settings, "max_ids", request.query_params.getlist("chunk_ids"), "chunk ids")
    return _query_ids(request, "chunk_ids")


def query_block_ids(request: Request, most: int) -> list[int]:
    """Returns the query's `block_ids`, of which it may have `most`, in order, without duplicates.

    Raises `InvalidRequest` and `TooLarge`.
    """
    count = len(request.query_params.getlist("block_ids"))
    if count > most:
        raise TooLarge(f"the request has {count} block ids, at most {most} are allowed: send fewer")
    return [one for one in _query_ids(request, "block_ids") if 0 < one <= MAX_BLOCK_ID]


def _query_ids(request: Request, name: str) -> list[int]:
    ids = []
    for text in request.query_params.getlist(name):
        digits = text.removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) <= _MAX_ID_DIGITS):
            raise InvalidRequest(f"got {text[:64]!r} as query parameter {name}, expected whole numbers")
        ids.append(int(text))
    return list(dict.fromkeys(ids))


def query_number(request: Request, name: str, highest: int) -> int | None:
    """Returns a query parameter that is a whole number from 1 to `highest`; None if it is missing.

    Raises `InvalidRequest`.
    """
    values = request.query_params.getlist(name)
    if not values:
        return None
    text = values[0]
    if len(values) > 1 or not (text.isascii() and text.isdigit() and len(text) < 20 and 0 < int(text) <= highest):
        raise InvalidRequest(f"the query parameter {name} must be given once, as a whole number from 1 to {highest}")
    return int(text)


def query_choice(request: Request, name: str, choices: Sequence[str]) -> str | None:
    """Returns a query parameter that is one of the choices; None if it is missing. Raises `InvalidRequest`."""
    values = request.query_params.getlist(name)
    if len(values) > 1 or not set(values) <= set(choices):
        raise InvalidRequest(f"the query parameter {name} must be given once, as {' or '.join(choices)}")
    return values[0] if values else None


def query_boolean(request: Request, name: str) -> bool:
    """Returns a query parameter that is `true` or `false`; False if it is missing. Raises `InvalidRequest`."""
    return query_choice(request, name, ("true", "false")) == "true"


def idempotency_key(request: Request) -> str | None:
    """Returns the header `Idempotency-Key`; None if it is missing. Raises `InvalidRequest`."""
    key = request.headers.get(IDEMPOTENCY_KEY_HEADER)
    if key is not None and not 0 < len(key) <= MAX_IDEMPOTENCY_KEY:
        raise InvalidRequest(f"the Idempotency-Key has {len(key)} characters, expected 1 to {MAX_IDEMPOTENCY_KEY}")
    return key


def _check_text(name: str, value: str) -> None:
    if "\0" in value:
        raise InvalidRequest(f"the query parameter {name} contains a NUL character, which is not allowed")
