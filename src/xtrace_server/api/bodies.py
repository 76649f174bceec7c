"""Reads and decodes the bodies of requests.

msgspec decodes about a gigabyte a second and lets no other thread run meanwhile. So a large body is decoded in a thread
and in parts: first its outline, in which chunks and filters stay as they came (four times as fast), then chunk by
chunk. What the outline shows to be too much is never decoded.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any, Final, Generic, TypeVar

import msgspec
from fastapi import Request

from xtrace_core import wire
from xtrace_server.api.limits import check_count
from xtrace_server.api.requests import service_of
from xtrace_server.errors import FilterInvalid, Invalid, Malformed, TooLarge, UnsupportedMediaType
from xtrace_server.settings import Settings

_T = TypeVar("_T", bound=msgspec.Struct)

LARGE_BYTES: Final = 256 * 1024
"""Larger bodies are decoded in a thread; this much takes about a third of a millisecond."""
_LISTS: Final[dict[type[msgspec.Struct], str]] = {
    wire.InsertChunks: "chunks",
    wire.UpdateChunks: "chunk_updates",
    wire.PatchChunks: "chunk_patches",
}
_NUL: Final = b"\\u0000"


@cache
def body_of(type_: type[_T]) -> Callable[[Request], Awaitable[_T]]:
    """A dependency that reads the JSON body of a request as `type_`, a struct.

    Raises `UnsupportedMediaType`, `TooLarge`, `Malformed` for what is no JSON, and `Invalid` for JSON of another shape;
    the message names the field.
    """
    decoder: Decoder[_T] = Decoder(type_)

    async def decode(request: Request) -> _T:
        body = await read_body(request)
        if len(body) <= LARGE_BYTES:
            return decoder.decode(body)
        return await asyncio.to_thread(decoder.decode_large, body, service_of(request).settings)

    decode.__xtrace_body__ = type_  # type: ignore[attr-defined]
    return decode


async def read_body(request: Request) -> bytes:
    """The body, which is kept in `request.state.body` where a retry of the request is to be recognised by it."""
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
    body = b"".join(parts) if size <= LARGE_BYTES else await asyncio.to_thread(b"".join, parts)
    if body:
        _check_media_type(request)
    if wire.IDEMPOTENCY_KEY_HEADER in request.headers:
        request.state.body = body
    return body


class Decoder(Generic[_T]):
    """Decodes bodies of one type."""

    def __init__(self, type_: type[_T]) -> None:
        self._type = type_
        self._list = _LISTS.get(type_)
        self._whole = msgspec.json.Decoder(type_)
        fields = msgspec.structs.fields(type_)
        self._outline = msgspec.json.Decoder(
            msgspec.defstruct(f"{type_.__name__}Outline", [self._outlined(field) for field in fields], kw_only=True)
        )
        if self._list is not None:
            (elements,) = [field.type for field in fields if field.name == self._list]
            self._element: msgspec.json.Decoder[Any] = msgspec.json.Decoder(elements.__args__[0])

    def decode(self, body: bytes) -> _T:
        """The body at once. Raises `Malformed` and `Invalid`."""
        value: _T = _decoded(self._whole, body, body, "")
        if _NUL in body:
            _refuse_nul(value)
        return value

    def decode_large(self, body: bytes, settings: Settings) -> _T:
        """The same, step by step, for a thread; raises `TooLarge` too."""
        outline = _decoded(self._outline, body, body, "")
        filter_ = getattr(outline, "meta_filter", None)
        if isinstance(filter_, msgspec.Raw) and len(filter_) > settings.max_filter_bytes:
            allowed = settings.max_filter_bytes
            raise FilterInvalid(
                f"meta_filter has {len(filter_)} bytes, at most {allowed} are allowed (max_filter_bytes)"
            )
        if self._list is None:
            return self.decode(body)
        parts: list[msgspec.Raw] = getattr(outline, self._list)
        check_count(settings, "max_chunks", parts, "chunks")
        values = {name: getattr(outline, name) for name in outline.__struct_fields__}
        values[self._list] = [
            _decoded(self._element, part, body, f".{self._list}[{i}]") for i, part in enumerate(parts)
        ]
        if _NUL in body:
            for value in values[self._list]:
                _refuse_nul(value)
            _refuse_nul([text for text in values.values() if isinstance(text, str)])
        return self._type(**values)

    def _outlined(self, field: msgspec.structs.FieldInfo) -> tuple[Any, ...]:
        if field.name == self._list:
            type_: Any = list[msgspec.Raw]
        else:
            type_ = msgspec.Raw if field.type is Any else field.type
        options = msgspec.field(name=field.encode_name)
        if not field.required:
            default = msgspec.Raw(b"null") if type_ is msgspec.Raw else field.default
            options = msgspec.field(name=field.encode_name, default=default)
        return field.name, type_, options


def _decoded(decoder: msgspec.json.Decoder[Any], part: bytes | msgspec.Raw, body: bytes, where: str) -> Any:
    """A part of the body; `where` is the path that leads there."""
    try:
        return decoder.decode(part)
    except msgspec.ValidationError as error:
        # A body may be of the wrong shape and malformed further on.
        _check_syntax(body)
        raise Invalid(f"the body is not valid: {_placed(str(error), where)}") from None
    except RecursionError:
        raise Invalid("the body nests too deep") from None
    except (msgspec.DecodeError, UnicodeError):
        _check_syntax(body)
        raise Malformed("the body is malformed JSON") from None


def _placed(message: str, where: str) -> str:
    """The decoder's message about a part, with the path from the body's beginning."""
    if not where:
        return message
    return message.replace(" - at `$", f" - at `${where}", 1) if " - at `$" in message else f"{message} - at `${where}`"


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


def _refuse_nul(value: Any) -> None:
    if _has_nul(msgspec.to_builtins(value, builtin_types=(bytes,))):
        raise Invalid("the body has a string with a NUL character, which no string may have")


def _has_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(_has_nul(key) or _has_nul(item) for key, item in value.items())
    return isinstance(value, list) and any(_has_nul(item) for item in value)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(
        f"the body has more than {limit} bytes, the most that is allowed (max_body_bytes)", body_is_read=False
    )
