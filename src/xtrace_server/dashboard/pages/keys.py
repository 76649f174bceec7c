"""API keys: the list with its grants, a single key, creating and revoking."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final, cast

from fastapi import APIRouter, Request, Response

from xtrace_core.permissions import Permission
from xtrace_server.auth.guard import SIGNED_IN, requires
from xtrace_server.dashboard import parameters
from xtrace_server.dashboard.confirming import to_type
from xtrace_server.dashboard.failures import PageRoute
from xtrace_server.dashboard.forms import Form, caller_of, read_form, read_once
from xtrace_server.dashboard.rendering import query, seen_other, signed_in_page
from xtrace_server.dashboard.words import sentence
from xtrace_server.errors import InvalidRequest, LimitExceeded
from xtrace_server.http.requests import state_of
from xtrace_server.operations import api_keys
from xtrace_server.operations.api_keys import PAGE_KEYS

router = APIRouter(prefix="/keys", route_class=PageRoute, include_in_schema=False)

GRANTS: Final = {
    Permission.NONE: "none",
    Permission.READ: "read",
    Permission.WRITE: "read, write",
    Permission.DELETE: "all",
}
_LEVELS: Final = {str(int(permission)): permission for permission in GRANTS}
_DEFAULT: Final = "default"
_PAGE_COLUMNS: Final = 8
_PAGE_GRANTS: Final = 25
_COLUMN: Final = "column_"
_SORTS: Final = ("used", "name", "expires")
_NO_NAME: Final = "Enter a name of 1 to 65,536 characters."
_LIST_DONE: Final = {
    "revoked": "API key revoked. Requests with it are rejected from now on.",
    "twice": "The form was sent twice. The API key was created once, and its secret was shown with the first answer.",
}
_DONE: Final = {
    "saved": "Grants saved. They apply from the next request on.",
    "changed": "API key changed. Changes apply from the next request on.",
    "same": "Nothing was changed.",
}


@dataclass(frozen=True, slots=True)
class _Created:
    """A key that was just created; only this response contains its secret."""

    key: api_keys.ApiKey
    secret: str


@router.get("")
@requires(SIGNED_IN)
async def list_all(request: Request) -> Response:
    """A page of the keys and their grants."""
    return await _list(request)


@router.post("")
@requires(SIGNED_IN)
async def create(request: Request) -> Response:
    """Creates a key, and shows its secret in the response itself: no address shows it again."""
    form, is_first = await read_once(request)
    if not is_first:
        return seen_other("/keys" + query(done="twice"))
    name, default = form.text("name").strip(), _LEVELS.get(form.text("default"), Permission.NONE)
    state, actor = state_of(request), caller_of(request).actor
    try:
        if not name:
            raise InvalidRequest(_NO_NAME)
        key, secret = await api_keys.create(state, actor, name, "", _day(form.text("expires").strip()), default)
    except (InvalidRequest, LimitExceeded) as error:
        return await _list(request, 422, sentence(error.detail), name)
    return await _list(request, created=_Created(key, secret))


@router.get("/{key_hash}")
@requires(SIGNED_IN)
async def show(request: Request, key_hash: str) -> Response:
    """One key, with its grants on a page of the knowledge bases."""
    return await _show(request, key_hash)


@router.post("/{key_hash}/grants")
@requires(SIGNED_IN)
async def save_grants(request: Request, key_hash: str) -> Response:
    """Sets the grants in the form; those on other pages stay."""
    form = await read_form(request)
    changes = _changes(form)
    changed = await api_keys.set_permissions(state_of(request), caller_of(request).actor, key_hash, changes)
    place = {name: form.text(name) for name in ("find", *parameters.PLACE)}
    back = place | {"done": "saved" if changed else "same"}
    return seen_other(f"/keys/{key_hash}" + query(**back))


@router.post("/{key_hash}/change")
@requires(SIGNED_IN)
async def change(request: Request, key_hash: str) -> Response:
    """Changes a key's name, description or expiry date."""
    form = await read_form(request)
    state, actor = state_of(request), caller_of(request).actor
    key = await api_keys.get(state, actor, key_hash)
    name, day = form.text("name").strip(), form.text("expires").strip()
    try:
        if not name:
            raise InvalidRequest(_NO_NAME)
        # If the day was not changed, the exact time is kept.
        is_same = key.expires_at is not None and day == key.expires_at[:10]
        expires_at = datetime.fromisoformat(key.expires_at) if is_same and key.expires_at else _day(day)
        _, changed = await api_keys.change(state, actor, key_hash, name, form.text("description").strip(), expires_at)
    except (InvalidRequest, LimitExceeded) as error:
        return await _show(request, key_hash, 422, change_problem=sentence(error.detail))
    return seen_other(f"/keys/{key_hash}" + query(done="changed" if changed else "same"))


@router.post("/{key_hash}/revoke")
@requires(SIGNED_IN)
async def revoke(request: Request, key_hash: str) -> Response:
    """Revokes a key once its name was typed."""
    form = await read_form(request)
    state, actor = state_of(request), caller_of(request).actor
    key = await api_keys.get(state, actor, key_hash)
    if form.text("confirm").strip() != to_type(key.name, key.first_n):
        return await _show(request, key_hash, 422, "The text does not match. Nothing was revoked.")
    await api_keys.revoke(state, actor, key_hash)
    return seen_other("/keys" + query(done="revoked"))


def _day(text: str) -> datetime | None:
    """Returns the start of a day in UTC; None for an empty text. Raises `InvalidRequest`."""
    try:
        return datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC) if text else None
    except ValueError:
        raise InvalidRequest("Enter the expiry date as year-month-day.") from None


def _changes(form: Form) -> dict[str, Permission | None]:
    changes: dict[str, Permission | None] = {}
    for kb_id, level in form.beginning_with("grant-").items():
        if level not in (_DEFAULT, *_LEVELS):
            raise InvalidRequest(f"got the grant {level[:20]!r}, expected default, 0, 1, 3 or 7")
        changes[kb_id] = _LEVELS.get(level)
    return changes


async def _list(
    request: Request, status: int = 200, problem: str = "", name: str = "", created: _Created | None = None
) -> Response:
    state, actor = state_of(request), caller_of(request).actor
    find = parameters.text(request, "find").strip()
    sorting = parameters.sorting(request, _SORTS, ("used",))
    found = await api_keys.list_page(
        state, actor, find, cast("Any", sorting.by), descending=sorting.descending, start=parameters.start(request)
    )
    matrix = await api_keys.matrix(state, actor, found.rows, "", parameters.start(request, _COLUMN), _PAGE_COLUMNS)
    columns = matrix.knowledge_bases
    return await signed_in_page(
        request,
        "keys.html",
        status=status,
        expired=(await api_keys.count(state, actor))[1],
        is_expired=_is_expired,
        matrix=matrix,
        grants=GRANTS,
        find=find,
        sorting=sorting,
        pages=parameters.turning(request, found, [key.hash for key in found.rows], PAGE_KEYS),
        columns=parameters.turning(request, columns, [kb.id for kb in columns.rows], _PAGE_COLUMNS, _COLUMN),
        place=parameters.place(request),
        columns_place=parameters.place(request, _COLUMN),
        problem=problem,
        name=name,
        created=created,
        done=_LIST_DONE.get(parameters.text(request, "done"), ""),
    )


async def _show(
    request: Request, key_hash: str, status: int = 200, problem: str = "", change_problem: str = ""
) -> Response:
    state, actor = state_of(request), caller_of(request).actor
    key = await api_keys.get(state, actor, key_hash)
    find = parameters.text(request, "find").strip()
    matrix = await api_keys.matrix(state, actor, [key], find, parameters.start(request), _PAGE_GRANTS)
    kbs = matrix.knowledge_bases
    return await signed_in_page(
        request,
        "key.html",
        status=status,
        key=key,
        is_expired=_is_expired(key),
        access=matrix.keys[0],
        matrix=matrix,
        grants=GRANTS,
        find=find,
        pages=parameters.turning(request, kbs, [kb.id for kb in kbs.rows], _PAGE_GRANTS),
        place=parameters.place(request),
        to_type=to_type(key.name, key.first_n),
        problem=problem,
        change_problem=change_problem,
        done=_DONE.get(parameters.text(request, "done"), ""),
    )


def _is_expired(key: api_keys.ApiKey) -> bool:
    return key.expires_at is not None and datetime.fromisoformat(key.expires_at) <= datetime.now(UTC)
