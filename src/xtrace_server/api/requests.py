"""From a request to typed values: bodies, query parameters, callers. What is not valid ends here."""

from collections.abc import Awaitable, Callable, Iterable
from functools import cache
from typing import Annotated, Any, TypeAlias, TypeVar, cast

import msgspec
from fastapi import Depends, Request

from xtrace_core.metadata_filter import Filter, InvalidFilter, parse_filter
from xtrace_core.wire import IDEMPOTENCY_KEY_HEADER
from xtrace_server.auth.guard import AdminCaller, ApiCaller, Plane, rule_of
from xtrace_server.errors import FilterInvalid, Invalid, Malformed, TooLarge, UnsupportedMediaType
from xtrace_server.service import Service

_T = TypeVar("_T")

MAX_IDEMPOTENCY_KEY = 255
_MAX_ID_DIGITS = 40


def service_of(request: Request) -> Service:
    """What the server holds."""
    return cast("Service", request.app.state.service)


async def guard(request: Request) -> None:
    """Runs before every route: leaves the caller that the route's rule asks for, or raises."""
    rule = rule_of(request.scope["route"].endpoint)
    keeper = service_of(request).guard
    if rule.plane is Plane.DATA:
        request.state.caller = await keeper.api_caller(request.headers, request.path_params["org"], rule)
    elif rule.plane is Plane.CONTROL:
        request.state.caller = await keeper.admin_caller(request.headers)


def _api_caller(request: Request) -> ApiCaller:
    return cast("ApiCaller", request.state.caller)


def _admin_caller(request: Request) -> AdminCaller:
    return cast("AdminCaller", request.state.caller)


ServiceDep: TypeAlias = Annotated[Service, Depends(service_of)]
ApiCallerDep: TypeAlias = Annotated[ApiCaller, Depends(_api_caller)]
AdminCallerDep: TypeAlias = Annotated[AdminCaller, Depends(_admin_caller)]


@cache
def body_of(type_: type[_T]) -> Callable[[Request], Awaitable[_T]]:
    """A dependency that reads the JSON body of a request as `type_`.

    Raises `UnsupportedMediaType`, `TooLarge`, `Malformed` for what is no JSON, and `Invalid` for JSON of
    another shape; the message names the field.
    """
    decoder = msgspec.json.Decoder(type_)

    async def decode(request: Request) -> _T:
        return decode_json(await read_body(request), decoder)

    return decode


async def read_body(request: Request) -> bytes:
    """The body, which is kept in `request.state.body`."""
    limit = service_of(request).settings.max_body_bytes
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and len(announced) < 20 and int(announced) > limit:
        raise _too_large(limit)
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
    body = b"".join(parts)
    if body:
        _check_media_type(request)
    request.state.body = body
    return body


def decode_json(body: bytes, decoder: msgspec.json.Decoder[_T]) -> _T:
    """The body as the decoder's type. Raises `Malformed` and `Invalid`."""
    try:
        value = decoder.decode(body)
    except msgspec.ValidationError as error:
        # A body may be of the wrong shape and malformed further on.
        _check_syntax(body)
        raise Invalid(f"the body is not valid: {error}") from None
    except RecursionError:
        raise Invalid("the body nests too deep") from None
    except (msgspec.DecodeError, UnicodeError):
        _check_syntax(body)
        raise Malformed("the body is malformed JSON") from None
    if b"\\u0000" in body and _has_nul(msgspec.to_builtins(value)):
        raise Invalid("the body has a string with a NUL character, which no string may have")
    return value


def meta_filter(value: Any) -> Filter:
    """The filter in a request. Raises `FilterInvalid`."""
    try:
        return parse_filter(value)
    except InvalidFilter as error:
        raise FilterInvalid(str(error)) from None


def query_string(request: Request, name: str) -> str:
    """The query parameter, given once. Raises `Invalid`."""
    values = request.query_params.getlist(name)
    if len(values) != 1 or not values[0]:
        raise Invalid(f"the query parameter {name} is given {len(values)} times, expected once, not empty")
    _check_text(name, values[0])
    return values[0]


def query_strings(request: Request, name: str) -> list[str]:
    """The values of a repeated query parameter."""
    values = request.query_params.getlist(name)
    for value in values:
        _check_text(name, value)
    return values


def query_chunk_ids(request: Request) -> list[int]:
    """The `chunk_ids` of the query, each once, in their order. Raises `Invalid`."""
    ids = []
    for text in request.query_params.getlist("chunk_ids"):
        digits = text.removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) <= _MAX_ID_DIGITS):
            raise Invalid(f"the query parameter chunk_ids is {text[:64]!r}, expected whole numbers")
        ids.append(int(text))
    return list(dict.fromkeys(ids))


def distinct(chunk_ids: Iterable[int], field: str) -> list[int]:
    """The ids of chunks to be written, none twice, because the outcome would depend on the order. Raises
    `Invalid`.
    """
    ids = list(chunk_ids)
    seen: set[int] = set()
    for i, chunk_id in enumerate(ids):
        if chunk_id in seen:
            raise Invalid(f"{field}[{i}].chunk_id is in the request before, expected each chunk once")
        seen.add(chunk_id)
    return ids


def idempotency_key(request: Request) -> str | None:
    """The header `Idempotency-Key`. Raises `Invalid`."""
    key = request.headers.get(IDEMPOTENCY_KEY_HEADER)
    if key is not None and not 0 < len(key) <= MAX_IDEMPOTENCY_KEY:
        raise Invalid(f"the Idempotency-Key has {len(key)} characters, expected 1 to {MAX_IDEMPOTENCY_KEY}")
    return key


def _check_media_type(request: Request) -> None:
    given = request.headers.get("content-type")
    media_type = (given or "application/json").partition(";")[0].strip().lower()
    if media_type != "application/json" and not (
        media_type.startswith("application/") and media_type.endswith("+json")
    ):
        raise UnsupportedMediaType(f"the Content-Type of the body is {media_type[:64]!r}, expected application/json")
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise UnsupportedMediaType(f"the Content-Encoding of the body is {encoding[:64]!r}, expected none")


def _check_syntax(body: bytes) -> None:
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except RecursionError:
        raise Invalid("the body nests too deep") from None
    except (msgspec.DecodeError, UnicodeError) as error:
        what = "is empty, expected JSON" if not body else f"is malformed JSON: {error}"
        raise Malformed(f"the body {what}") from None


def _has_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(_has_nul(key) or _has_nul(item) for key, item in value.items())
    return isinstance(value, list) and any(_has_nul(item) for item in value)


def _check_text(name: str, value: str) -> None:
    if "\0" in value:
        raise Invalid(f"the query parameter {name} has a NUL character, which no string may have")


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body has more than {limit} bytes, which is the most that this server takes")
