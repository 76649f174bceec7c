"""Reads and decodes request bodies: JSON and, for writes of chunks and blocks of vectors, MessagePack, which avoids
base64. A segment of a shared index is only read.

A decoder blocks every other thread. So a large body is decoded in a thread, in parts of limited size. Bodies are
decoded one after the other, because several such threads would make the event loop wait for each in turn.
"""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Generic, TypeVar

import msgspec
from fastapi import Request

from xtrace_core import wire
from xtrace_server.errors import FilterRefused, InvalidRequest, MalformedRequest, TooLarge, UnsupportedMediaType
from xtrace_server.http.body_parts import LongList, Parts
from xtrace_server.http.json_parts import json_parts
from xtrace_server.http.msgpack_parts import msgpack_parts
from xtrace_server.http.requests import running_of, state_of
from xtrace_server.settings import BODY_COPIES, Settings

_T = TypeVar("_T", bound=msgspec.Struct)

LARGE_BYTES: Final = 256 * 1024
"""Larger bodies are decoded in a thread; this size takes about a third of a millisecond."""
_LISTS: Final[dict[type[msgspec.Struct], LongList]] = {
    wire.InsertChunks: LongList("chunks", "max_chunks", "chunks"),
    wire.UpdateChunks: LongList("chunk_updates", "max_chunks", "chunks"),
    wire.PatchChunks: LongList("chunk_patches", "max_chunks", "chunks"),
    wire.FindNames: LongList("names", "max_ids", "names"),
}
_thread: Final = ThreadPoolExecutor(1, thread_name_prefix="xtrace-decode")


@dataclass(frozen=True, slots=True, eq=False)
class Format:
    """A format of request bodies."""

    name: str
    media_type: str
    decoder: Callable[[Any], Any]
    check: Callable[[bytes], object]
    """Raises `msgspec.DecodeError` or `UnicodeError` for bytes that are not in the format, regardless of the type."""
    parts: Callable[[Settings, bytes, LongList | None], Parts]
    nul: bytes
    """A body without these bytes cannot contain a NUL character in a string."""


def _check_json(part: bytes) -> None:
    msgspec.json.decode(part, type=msgspec.Raw)
    part.decode()  # msgspec does not check raw parts for valid UTF-8


JSON: Final = Format("JSON", "application/json", msgspec.json.Decoder, _check_json, json_parts, b"\\u0000")
MSGPACK: Final = Format(
    "MessagePack", wire.MSGPACK, msgspec.msgpack.Decoder, msgspec.msgpack.decode, msgpack_parts, b"\0"
)
OCTETS: Final = wire.SEGMENT_MEDIA_TYPE
_BULKY: Final = (wire.SealBlock, wire.SearchBlocks)
_PACKED: Final = (wire.InsertChunks, wire.UpdateChunks, wire.PatchChunks, wire.SealBlock, wire.SearchBlocks)


def formats_of(type_: type[msgspec.Struct]) -> tuple[Format, ...]:
    """Returns the accepted formats for bodies of this type."""
    return (JSON, MSGPACK) if type_ in _PACKED else (JSON,)


def media_types_of(type_: type[Any]) -> tuple[str, ...]:
    """Returns the accepted media types for bodies of this type; `bytes` are sent as they are."""
    return (OCTETS,) if type_ is bytes else tuple(format_.media_type for format_ in formats_of(type_))


@cache
def body_of(type_: type[_T]) -> Callable[[Request], Awaitable[_T]]:
    """Returns a dependency that reads the body of a request as `type_`, a struct.

    Raises `UnsupportedMediaType`, `TooLarge`, `MalformedRequest` for a body that is not in its format, and
    `InvalidRequest` for one of another shape; the message names the field.
    """
    decoders = {format_: Decoder(type_, format_) for format_ in formats_of(type_)}

    async def decode(request: Request) -> _T:
        body = await read_body(request)
        decoder = decoders[_format_of(request, tuple(decoders)) if body else JSON]
        settings = state_of(request).settings
        if len(body) <= min(LARGE_BYTES, settings.max_filter_bytes):
            return decoder.decode(body)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(_thread, decoder.decode_large, body, settings)

    decode.__xtrace_body__ = type_  # type: ignore[attr-defined]
    return decode


@cache
def octets_of(most: int, what: str) -> Callable[[Request], Awaitable[bytes]]:
    """Returns a dependency that reads the body of a request as it is, at most `most` bytes; `what` is for messages.

    Raises `UnsupportedMediaType` and `TooLarge`.
    """

    async def read(request: Request) -> bytes:
        body = await read_body(request, most, what)
        media_type = _media_type_of(request)
        if media_type != OCTETS:
            raise UnsupportedMediaType(f"the Content-Type of the body is {media_type[:64]!r}, expected {OCTETS}")
        return body

    read.__xtrace_body__ = bytes  # type: ignore[attr-defined]
    return read


async def read_body(request: Request, most: int | None = None, what: str = "") -> bytes:
    """Returns the body, at most `most` bytes of `what`, if given; keeps it in `request.state.body` if it is needed to
    recognise a retry of the request."""
    limit = state_of(request).settings.max_body_bytes
    whose = "max_body_bytes"
    if most is not None and most < limit:
        limit, whose = most, f"of {what}"
    announced = request.headers.get("content-length", "")
    expected = int(announced) if announced.isdigit() and len(announced) < 20 else 0
    if expected > limit:
        raise _too_large(limit, whose)
    parts, size, taken, running = [], 0, 0, running_of(request)
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise _too_large(limit, whose)
        if size * BODY_COPIES > taken:
            # Take the announced size at once: two bodies with half of their memory each would wait for each other.
            wanted = max(size, expected) * BODY_COPIES
            await running.take("bodies", wanted - taken)
            taken = wanted
        parts.append(part)
    body = b"".join(parts) if size <= LARGE_BYTES else await asyncio.to_thread(b"".join, parts)
    if wire.IDEMPOTENCY_KEY_HEADER in request.headers:
        request.state.body = body
    return body


class Decoder(Generic[_T]):
    """Decodes bodies of one type in one format."""

    def __init__(self, type_: type[_T], format_: Format = JSON) -> None:
        self._format = format_
        self._long = _LISTS.get(type_)
        self._whole = format_.decoder(type_)
        # In MessagePack, ciphertexts contain any byte. In JSON, they are base64, so a NUL elsewhere is found quickly,
        # except for a few ciphertexts of a megabyte.
        self._is_bulky = type_ in _BULKY
        if self._long is not None:
            (list_,) = [field.type for field in msgspec.structs.fields(type_) if field.name == self._long.name]
            self._element = format_.decoder(list_.__args__[0])

    def decode(self, body: bytes) -> _T:
        """Decodes the whole body at once. Raises `MalformedRequest` and `InvalidRequest`."""
        try:
            value: _T = self._decoded(self._whole, body)
        except InvalidRequest:
            # A body may have the wrong shape, and be malformed further on.
            self._check_syntax(body)
            raise
        return value

    def decode_large(self, body: bytes, settings: Settings) -> _T:
        """Decodes it part by part in a thread. Also raises `TooLarge` and `LimitExceeded`."""
        parts = self._format.parts(settings, body, self._long)
        start, end = parts.members.get("meta_filter", (0, 0))
        if end - start > settings.max_filter_bytes:
            allowed = settings.max_filter_bytes
            raise FilterRefused(
                f"meta_filter has {end - start} bytes, at most {allowed} are allowed (max_filter_bytes)"
            )
        try:
            value: _T = self._decoded(self._whole, parts.rest)
            if self._long is not None and parts.elements:
                listed = enumerate(body[slice(*element)] for element in parts.elements)
                where = f".{self._long.name}"
                elements = [self._decoded(self._element, part, f"{where}[{i}]") for i, part in listed]
                setattr(value, self._long.name, elements)
        except InvalidRequest:
            for part in (parts.rest, *[body[slice(*element)] for element in parts.elements]):
                self._check_syntax(part)
            raise
        return value

    def _decoded(self, decoder: Any, part: bytes, where: str = "") -> Any:
        """Decodes a part of the body; `where` is its path."""
        try:
            value = decoder.decode(part)
        except msgspec.ValidationError as error:
            raise InvalidRequest(f"the body is not valid: {_placed(str(error), where)}") from None
        except RecursionError:
            raise InvalidRequest("the body nests too deeply") from None
        except (msgspec.DecodeError, UnicodeError):
            self._check_syntax(part)
            raise MalformedRequest(f"the body is malformed {self._format.name}") from None
        if self._format.nul in part and (self._is_bulky or JSON.nul in msgspec.json.encode(value)) and _has_nul(value):
            raise InvalidRequest("the body has a string with a NUL character, which is not allowed")
        return value

    def _check_syntax(self, part: bytes) -> None:
        try:
            self._format.check(part)
        except msgspec.ValidationError:
            return  # well-formed, but not representable in Python
        except RecursionError:
            raise InvalidRequest("the body nests too deeply") from None
        except (msgspec.DecodeError, UnicodeError) as error:
            name = self._format.name
            what = f"is empty, expected {name}" if not part else f"is malformed {name}: {error}"
            raise MalformedRequest(f"the body {what}") from None


def _placed(message: str, where: str) -> str:
    """Returns the decoder's message about a part, with the path from the root of the body."""
    if not where:
        return message
    return message.replace(" - at `$", f" - at `${where}", 1) if " - at `$" in message else f"{message} - at `${where}`"


def _format_of(request: Request, formats: tuple[Format, ...]) -> Format:
    """Returns the format that the headers name. Raises `UnsupportedMediaType`."""
    media_type = _media_type_of(request)
    is_json = media_type == JSON.media_type or (media_type.startswith("application/") and media_type.endswith("+json"))
    format_ = JSON if is_json else MSGPACK if media_type in wire.MSGPACK_NAMES else None
    if format_ not in formats:
        expected = " or ".join(one.media_type for one in formats)
        raise UnsupportedMediaType(f"the Content-Type of the body is {media_type[:64]!r}, expected {expected}")
    return format_


def _media_type_of(request: Request) -> str:
    """Returns the media type of the body, JSON by default. Raises `UnsupportedMediaType` if the body is encoded."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise UnsupportedMediaType(f"the Content-Encoding of the body is {encoding[:64]!r}, expected none")
    return (request.headers.get("content-type") or JSON.media_type).partition(";")[0].strip().lower()


def _has_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, msgspec.Struct):
        return any(map(_has_nul, msgspec.structs.astuple(value)))
    if isinstance(value, dict):
        return any(_has_nul(key) or _has_nul(item) for key, item in value.items())
    return isinstance(value, list) and any(map(_has_nul, value))


def _too_large(limit: int, whose: str) -> TooLarge:
    return TooLarge(f"the body has more than {limit} bytes, the maximum ({whose})", body_is_read=False)
