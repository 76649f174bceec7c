"""Reads and decodes the bodies of requests.

A decoder lets no other thread run meanwhile. So a large body is decoded part by part, each of a bounded size, in a
thread; and one body after another, because several such threads would keep the event loop waiting in turn.
"""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, Final, Generic, TypeVar

import msgspec
from fastapi import Request

from xtrace_core import wire
from xtrace_server.api.json_parts import LongList, json_parts
from xtrace_server.api.requests import service_of
from xtrace_server.errors import FilterInvalid, Invalid, Malformed, TooLarge, UnsupportedMediaType
from xtrace_server.settings import Settings

_T = TypeVar("_T", bound=msgspec.Struct)
_D = TypeVar("_D")

LARGE_BYTES: Final = 256 * 1024
"""Larger bodies are decoded in a thread; this much takes about a third of a millisecond."""
_LISTS: Final[dict[type[msgspec.Struct], LongList]] = {
    wire.InsertChunks: LongList("chunks", "max_chunks", "chunks"),
    wire.UpdateChunks: LongList("chunk_updates", "max_chunks", "chunks"),
    wire.PatchChunks: LongList("chunk_patches", "max_chunks", "chunks"),
    wire.FindNames: LongList("names", "max_ids", "names"),
}
_NUL: Final = b"\\u0000"
_thread: Final = ThreadPoolExecutor(1, thread_name_prefix="xtrace-decode")


@cache
def body_of(type_: type[_T]) -> Callable[[Request], Awaitable[_T]]:
    """A dependency that reads the JSON body of a request as `type_`, a struct.

    Raises `UnsupportedMediaType`, `TooLarge`, `Malformed` for what is no JSON, and `Invalid` for JSON of another shape;
    the message names the field.
    """
    decoder: Decoder[_T] = Decoder(type_)

    async def decode(request: Request) -> _T:
        body = await read_body(request)
        settings = service_of(request).settings
        if len(body) <= min(LARGE_BYTES, settings.max_filter_bytes):
            return decoder.decode(body)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(_thread, decoder.decode_large, body, settings)

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
        self._long = _LISTS.get(type_)
        self._whole = msgspec.json.Decoder(type_)
        if self._long is not None:
            (list_,) = [field.type for field in msgspec.structs.fields(type_) if field.name == self._long.name]
            self._element: msgspec.json.Decoder[Any] = msgspec.json.Decoder(list_.__args__[0])

    def decode(self, body: bytes) -> _T:
        """The body at once. Raises `Malformed` and `Invalid`."""
        try:
            return _decoded(self._whole, body, "")
        except Invalid:
            # A body may be of the wrong shape and malformed further on.
            _check_syntax(body)
            raise

    def decode_large(self, body: bytes, settings: Settings) -> _T:
        """The same part by part, for a thread; raises `TooLarge` and `LimitExceeded` too."""
        parts = json_parts(settings, body, self._long)
        start, end = parts.members.get("meta_filter", (0, 0))
        if end - start > settings.max_filter_bytes:
            allowed = settings.max_filter_bytes
            raise FilterInvalid(
                f"meta_filter has {end - start} bytes, at most {allowed} are allowed (max_filter_bytes)"
            )
        rest = parts.without_elements(body)
        try:
            value: _T = _decoded(self._whole, rest, "")
            if self._long is not None and parts.elements:
                listed = enumerate(body[slice(*element)] for element in parts.elements)
                where = f".{self._long.name}"
                setattr(value, self._long.name, [_decoded(self._element, part, f"{where}[{i}]") for i, part in listed])
        except Invalid:
            for part in (rest, *[body[slice(*element)] for element in parts.elements]):
                _check_syntax(part)
            raise
        return value


def _decoded(decoder: msgspec.json.Decoder[_D], part: bytes, where: str) -> _D:
    """A part of the body; `where` is the path that leads there."""
    try:
        value = decoder.decode(part)
    except msgspec.ValidationError as error:
        raise Invalid(f"the body is not valid: {_placed(str(error), where)}") from None
    except RecursionError:
        raise Invalid("the body nests too deep") from None
    except (msgspec.DecodeError, UnicodeError):
        _check_syntax(part)
        raise Malformed("the body is malformed JSON") from None
    if _NUL in part:
        _refuse_nul(value)
    return value


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
