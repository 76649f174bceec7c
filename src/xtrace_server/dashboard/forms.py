"""Reads submitted forms, and rejects what did not come from a form of this server."""

from dataclasses import dataclass
from typing import Any, Final, cast
from urllib.parse import parse_qsl

from fastapi import Request

from xtrace_server.auth.guard import Plane, rule_of
from xtrace_server.auth.sessions import OperatorSignedIn, SignedIn
from xtrace_server.dashboard import tokens
from xtrace_server.errors import InvalidRequest, MalformedRequest, TooLarge, UnsupportedMediaType
from xtrace_server.http import cookies
from xtrace_server.http.requests import state_of
from xtrace_server.operations import sessions

_MEDIA_TYPE: Final = "application/x-www-form-urlencoded"
_MAX_BYTES: Final = 2**20
"""The limit for a form: a name of 65,536 characters at up to twelve bytes each."""
_MAX_VISITOR_BYTES: Final = 16 * 1024
"""The limit for a form of a visitor who is not signed in."""
_MAX_FIELDS: Final = 400
_COOKIES: Final = {
    Plane.SESSION: (cookies.SESSION,),
    Plane.OPERATOR_SESSION: (cookies.OPERATOR,),
    Plane.VISITOR: (cookies.VISITOR, cookies.SESSION, cookies.OPERATOR),
}


class FormRefused(Exception):
    """The form did not come from a page of this server in this session; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Form:
    """The fields of a form."""

    fields: dict[str, list[str]]
    nonce: str

    def text(self, name: str) -> str:
        """Returns the first value of a field; empty if it is missing."""
        return self.fields.get(name, [""])[0]

    def beginning_with(self, prefix: str) -> dict[str, str]:
        """Returns the fields with this prefix, keyed by the rest of their names."""
        return {name.removeprefix(prefix): values[0] for name, values in self.fields.items() if name.startswith(prefix)}


def caller_of(request: Request) -> SignedIn:
    """Returns the signed-in administrator."""
    return cast("SignedIn", request.state.caller)


def operator_of(request: Request) -> OperatorSignedIn:
    """Returns the signed-in operator."""
    return cast("OperatorSignedIn", request.state.caller)


async def read_form(request: Request) -> Form:
    """Returns the form in a request.

    Raises `FormRefused`, `UnsupportedMediaType`, `TooLarge`, `MalformedRequest` and `InvalidRequest`.
    """
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise FormRefused("the form was sent from a page of another site")
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != _MEDIA_TYPE:
        raise UnsupportedMediaType(f"the Content-Type of the form is {media_type[:64]!r}, expected {_MEDIA_TYPE}")
    fields = _parsed(await _body(request))
    return Form(fields, _nonce(request, fields.get(tokens.FIELD, [""])[0]))


async def read_once(request: Request) -> tuple[Form, bool]:
    """Returns a form that creates something, and whether this is its first submission."""
    form = await read_form(request)
    caller: Any = request.state.caller
    return form, await sessions.claim_form(state_of(request), caller, form.nonce)


def _nonce(request: Request, token: str) -> str:
    settings = state_of(request).settings
    for name in _COOKIES[rule_of(request.scope["route"].endpoint).plane]:
        secret = cookies.read_cookie(request, settings, name)
        nonce = None if secret is None else tokens.nonce_of(secret, token)
        if nonce is not None:
            return nonce
    raise FormRefused("the token of the form is missing, or belongs to another session")


async def _body(request: Request) -> bytes:
    is_visitor = rule_of(request.scope["route"].endpoint).plane is Plane.VISITOR
    limit, body = _MAX_VISITOR_BYTES if is_visitor else _MAX_BYTES, bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limit:
            raise TooLarge(f"the form has more than {limit} bytes", body_is_read=False)
    return bytes(body)


def _parsed(body: bytes) -> dict[str, list[str]]:
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS, encoding="utf-8"
        )
    except UnicodeError:
        raise MalformedRequest("the form is not valid UTF-8") from None
    except ValueError:
        raise TooLarge(f"the form has more than {_MAX_FIELDS} fields") from None
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        if "\0" in name or "\0" in value:
            raise InvalidRequest("the form has a NUL character, which is not allowed")
        # Browsers send line breaks as two characters.
        found.setdefault(name, []).append(value.replace("\r\n", "\n"))
    return found
