"""The operator's page for one organisation: usage, quotas, admin keys, audit log, suspending and deleting."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from xtrace_core import wire
from xtrace_server.auth.guard import OPERATOR_SIGNED_IN, Operator, requires
from xtrace_server.dashboard import parameters
from xtrace_server.dashboard.confirming import to_type
from xtrace_server.dashboard.failures import PageRoute
from xtrace_server.dashboard.forms import operator_of, read_form, read_once
from xtrace_server.dashboard.rendering import operator_page, query, seen_other
from xtrace_server.dashboard.words import sentence
from xtrace_server.errors import InvalidRequest, Unauthenticated
from xtrace_server.http.requests import client_address, state_of
from xtrace_server.operations import admin_keys, audit, organisations, sessions
from xtrace_server.operations.writing import freeing_space

router = APIRouter(prefix="/operator/organisations/{organisation_id}", route_class=PageRoute, include_in_schema=False)

QUOTAS: Final = {
    "chunks": "Vectors",
    "bytes": "Bytes",
    "contexts": "Contexts",
    "requests_per_minute": "Requests per minute",
    "requests_per_day": "Requests per day",
}
_UNITS: Final = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
_NUMBER: Final = re.compile(r"([0-9]{1,3}(?:[, _]?[0-9]{3}){0,5}|[0-9]{1,18})(?: ?([kmgt]ib|b))?", re.IGNORECASE)
_ENTRIES: Final = 10
_WRONG: Final = "The text does not match. Nothing was changed."
_DONE: Final = {
    "suspended": "Organisation suspended.",
    "resumed": "Organisation resumed.",
    "renamed": "Organisation renamed. Its ID stays the same.",
    "quotas": "Quotas saved. They apply from the next request on.",
    "twice": "The form was sent twice. The admin key was created once, and was shown with the first answer.",
}


@dataclass(frozen=True, slots=True)
class _Shown:
    """What a page shows besides stored data: problems by form, what was typed, and a new key."""

    status: int = 200
    problems: dict[str, str] = field(default_factory=dict)
    typed: dict[str, str] = field(default_factory=dict)
    secret: str = ""


@router.get("")
@requires(OPERATOR_SIGNED_IN)
async def show(request: Request, organisation_id: str) -> Response:
    """One organisation with its usage, quotas, admin keys and newest audit entries."""
    return await _page(request, organisation_id)


@router.post("/rename")
@requires(OPERATOR_SIGNED_IN)
async def rename(request: Request, organisation_id: str) -> Response:
    """Renames an organisation."""
    form, state = await read_form(request), state_of(request)
    name = form.text("name").strip()
    try:
        await organisations.rename(state.database, operator_of(request).operator, organisation_id, name)
    except InvalidRequest as error:
        shown = _Shown(422, {"rename": sentence(error.detail)}, {"name": name[:1000]})
        return await _page(request, organisation_id, shown)
    return _done(organisation_id, "renamed")


@router.post("/quotas")
@requires(OPERATOR_SIGNED_IN)
async def set_quotas(request: Request, organisation_id: str) -> Response:
    """Sets the quotas; an empty field means unlimited."""
    form, state = await read_form(request), state_of(request)
    typed = {name: form.text(name).strip()[:100] for name in QUOTAS}
    problems, quotas = {}, {}
    for name, text in typed.items():
        try:
            quotas[name] = _quota(text, in_bytes=name == "bytes")
        except ValueError as error:
            problems[name] = str(error)
    if problems:
        return await _page(request, organisation_id, _Shown(422, problems, typed))
    await organisations.set_quotas(
        state.database, operator_of(request).operator, organisation_id, wire.SetQuotas(**quotas)
    )
    return _done(organisation_id, "quotas")


@router.post("/suspend")
@requires(OPERATOR_SIGNED_IN)
async def suspend(request: Request, organisation_id: str) -> Response:
    """Suspends an organisation once its name was typed."""

    async def act(operator: Operator) -> Response:
        await organisations.suspend(state_of(request).database, operator, organisation_id)
        return _done(organisation_id, "suspended")

    return await _confirmed(request, organisation_id, "suspend", act)


@router.post("/resume")
@requires(OPERATOR_SIGNED_IN)
async def resume(request: Request, organisation_id: str) -> Response:
    """Resumes an organisation once its name was typed."""

    async def act(operator: Operator) -> Response:
        await organisations.resume(state_of(request).database, operator, organisation_id)
        return _done(organisation_id, "resumed")

    return await _confirmed(request, organisation_id, "resume", act)


@router.post("/delete")
@requires(OPERATOR_SIGNED_IN)
async def delete(request: Request, organisation_id: str) -> Response:
    """Deletes an organisation and all its data once its name was typed."""
    state = state_of(request)

    async def act(operator: Operator) -> Response:
        await freeing_space(state, lambda: organisations.delete(state.database, operator, organisation_id))
        return seen_other("/operator" + query(done="deleted"))

    return await _confirmed(request, organisation_id, "delete", act)


@router.post("/admin-keys")
@requires(OPERATOR_SIGNED_IN)
async def create_admin_key(request: Request, organisation_id: str) -> Response:
    """Creates an admin key, optionally revokes all others, and shows the new one in the response itself.

    The form asks for the operator key: a session alone must not give access to an organisation.
    """
    form, is_first = await read_once(request)
    if not is_first:
        return _done(organisation_id, "twice")
    state, caller, address = state_of(request), operator_of(request), client_address(request)
    await state.sign_ins.check(address)
    try:
        sessions.check_key(caller, form.text("key").strip())
    except Unauthenticated:
        await state.sign_ins.fail(address)
        problem = "This is not the operator key that you signed in with. Nothing was changed."
        return await _page(request, organisation_id, _Shown(422, {"admin-key": problem}))
    act = admin_keys.rotate if form.text("replace") else admin_keys.create
    _, secret = await act(state.database, caller.operator, organisation_id)
    return await _page(request, organisation_id, _Shown(secret=secret))


async def _confirmed(
    request: Request,
    organisation_id: str,
    what: str,
    act: Callable[[Operator], Awaitable[Response]],
) -> Response:
    """Calls `act` if the organisation's name was typed, otherwise shows the problem in the form `what`."""
    sent = await read_form(request)
    shown = await organisations.get_shown(state_of(request).database, organisation_id)
    if sent.text("confirm").strip() != to_type(shown.name, shown.id):
        return await _page(request, organisation_id, _Shown(422, {what: _WRONG}))
    return await act(operator_of(request).operator)


def _quota(text: str, *, in_bytes: bool) -> int | None:
    """Returns the number that was typed; None for an empty text. Raises `ValueError` with a sentence."""
    if not text:
        return None
    match = _NUMBER.fullmatch(text)
    if match is None or (match[2] and not in_bytes):
        form = "a whole number of bytes, or one with KiB, MiB, GiB or TiB" if in_bytes else "a whole number"
        raise ValueError(f"Enter {form}, or leave the field empty for unlimited.")
    number = int(re.sub("[, _]", "", match[1])) * _UNITS[(match[2] or "").lower()]
    if number >= 2**63:
        raise ValueError("Enter a smaller number.")
    return number


def _done(organisation_id: str, what: str) -> Response:
    return seen_other(f"/operator/organisations/{organisation_id}" + query(done=what))


async def _page(request: Request, organisation_id: str, more: _Shown | None = None) -> Response:
    state, more = state_of(request), more or _Shown()
    await state.guard.request_counts.write()
    await state.denials.write()
    shown = await organisations.get_shown(state.database, organisation_id)
    entries = await audit.newest_of(state.database, organisation_id, None, _ENTRIES)
    values: dict[str, Any] = {
        "shown": shown,
        "admin_keys": await admin_keys.list_all(state.database, organisation_id),
        "entries": [audit.shown(entry) for entry in entries],
        "quota_names": QUOTAS,
        "to_type": to_type(shown.name, shown.id),
        "problems": more.problems,
        "typed": more.typed,
        "secret": more.secret,
        "done": _DONE.get(parameters.text(request, "done"), ""),
    }
    return operator_page(request, "operator-organisation.html", status=more.status, **values)
