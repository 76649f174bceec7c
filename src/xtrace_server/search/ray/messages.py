"""The protocol between the server and its bridge, on a Unix socket: one request at a time on each connection.

A message is its length (4 bytes, little-endian), the MessagePack of a `Request` or `Reply`, and `payload` bytes.
"""

import asyncio
import socket
from enum import IntEnum
from typing import Final, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

MAX_HEADER_BYTES: Final = 128 * 2**20
MAX_PAYLOAD_BYTES: Final = 2**31
NAME_BYTES: Final = 32
_LENGTH_BYTES: Final = 4


class Status(IntEnum):
    """How a request ended."""

    DONE = 0
    MISSING = 1
    """The rows are not held, or their holder is gone."""
    FULL = 2
    """There is no room for the rows."""
    LATE = 3
    """The request took too long."""
    FAILED = 4
    """The request failed; the message names the kind of fault."""


class Request(msgspec.Struct, tag_field="do", kw_only=True):
    """The common fields of all requests."""

    timeout_s: float
    payload: int = 0


class Hold(Request, tag="hold", kw_only=True):
    """Store the rows in the payload; without a payload, reply whether they are held."""

    name: bytes
    nonces: bytes = b""
    row_bytes: int = 1
    is_body: bool = False
    """Whether the payload is the body of a block instead, whose name is its SHA-256."""


class Compute(Request, tag="compute", kw_only=True):
    """Reply with the nonces and answers for rows of a segment: at `positions` (int32, little-endian), or all from
    `start` to `end`.
    """

    name: bytes
    computation: bytes
    positions: bytes | None = None
    start: int = 0
    end: int = 0


class Have(Request, tag="have", kw_only=True):
    """Reply with a byte for each of these bodies: 1 if it is held, else 0."""

    names: bytes
    """Of `NAME_BYTES` each."""


class Evaluate(Request, tag="evaluate", kw_only=True):
    """Reply with the values of these bodies for the queries of a computation."""

    names: bytes
    computation: bytes


class Ask(Request, tag="ask", kw_only=True):
    """Reply with the state of the cluster."""


AnyRequest = Hold | Compute | Have | Evaluate | Ask


class Reply(msgspec.Struct, kw_only=True):
    """The payload of `Compute` is answers, `(n, width)` uint8; that of `Evaluate` is values, 16 bits, little-endian."""

    status: Status
    nonces: bytes = b""
    payload: int = 0
    message: str = ""
    nodes: int = 0
    threads: int = 0
    held_bytes: int = 0


Rows = NDArray[np.uint8]
_T = TypeVar("_T")
_requests: Final = msgspec.msgpack.Decoder(AnyRequest)
_replies: Final = msgspec.msgpack.Decoder(Reply)
_NOTHING: Final = np.empty(0, dtype=np.uint8)


class Ended(ConnectionError):
    """The other side closed the connection."""


def head_of(message: AnyRequest | Reply) -> bytes:
    """Returns the encoded message, without its payload."""
    data = msgspec.msgpack.encode(message)
    return len(data).to_bytes(_LENGTH_BYTES, "little") + data


def receive_reply(connection: socket.socket) -> tuple[Reply, Rows]:
    """Waits for the next reply, and returns it with its payload. Raises `OSError`."""
    reply = _replies.decode(_received(connection, _header_bytes(_received(connection, _LENGTH_BYTES))))
    return reply, np.frombuffer(_received(connection, _payload_bytes(reply)), dtype=np.uint8)


async def receive_request(connection: socket.socket) -> tuple[AnyRequest, Rows]:
    """Returns the next request and its payload. Raises `Ended`."""
    request = _requests.decode(await _arrived(connection, _header_bytes(await _arrived(connection, _LENGTH_BYTES))))
    size = _payload_bytes(request)
    return request, np.frombuffer(await _arrived(connection, size), dtype=np.uint8) if size else _NOTHING


def _header_bytes(length: bytearray) -> int:
    size = int.from_bytes(length, "little")
    if size > MAX_HEADER_BYTES:
        raise Ended(f"a message of {size} bytes, expected at most {MAX_HEADER_BYTES}")
    return size


def _payload_bytes(message: AnyRequest | Reply) -> int:
    if not 0 <= message.payload <= MAX_PAYLOAD_BYTES:
        raise Ended(f"a payload of {message.payload} bytes, expected at most {MAX_PAYLOAD_BYTES}")
    return message.payload


def _received(connection: socket.socket, size: int) -> bytearray:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        count = connection.recv_into(view)
        if not count:
            raise Ended("the connection was closed")
        view = view[count:]
    return data


async def _arrived(connection: socket.socket, size: int) -> bytearray:
    data = bytearray(size)
    view = memoryview(data)
    loop = asyncio.get_running_loop()
    while view:
        count = await loop.sock_recv_into(connection, view)
        if not count:
            raise Ended("the connection was closed")
        view = view[count:]
    return data
