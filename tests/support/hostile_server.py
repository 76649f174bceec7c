"""A server that lies: a proxy in front of the real one that changes answers on their way, or makes them up.

It knows what an operator knows: all that is stored, every request, the public keys, and no secret. `Hostile.lie` is
called with each exchange and changes it; `rows` and `set_rows` read and write a search's answer in either format.
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
import msgspec
import numpy as np

from xtrace_core import frames, wire

ROWS_A_BLOCK = 5
"""Few, so that short answers have several blocks."""


@dataclass
class Row:
    """One row of a search's answer, whatever its format."""

    ciphertexts: list[bytes]
    chunk_id: int
    nonce: bytes | None


@dataclass
class Exchange:
    """A request and the real server's answer to it, which may be changed."""

    method: str
    target: str
    headers: dict[str, str]
    request: bytes
    client: httpx2.AsyncClient
    """The real server's."""
    status: int = 200
    content_type: str = ""
    answer: bytes = b""
    more_headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None
    """What `Content-Length` says, if it is not the truth."""
    raw: Callable[[asyncio.StreamWriter], Awaitable[None]] | None = None
    """What is said instead of an answer."""

    def is_for(self, *endings: str) -> bool:
        """Whether the call is one of these: method and the path's part after `/v1/`, up to the organisation."""
        return f"{self.method} {self.target.partition('/v1/')[2].split('?')[0].rpartition('/')[0]}" in endings

    @property
    def body(self) -> Any:
        """The request's JSON."""
        return json.loads(self.request)

    @property
    def json(self) -> Any:
        """The answer's JSON."""
        return json.loads(self.answer)

    @json.setter
    def json(self, value: Any) -> None:
        self.content_type = "application/json"
        self.answer = json.dumps(value).encode()

    @property
    def rows(self) -> list[Row]:
        """The rows of a search's answer."""
        if self.content_type == wire.MSGPACK:
            return [Row(*row) for row in msgspec.msgpack.decode(self.answer)]
        found, reader = [], frames.FrameReader()
        for block in reader.feed(self.answer):
            for i in range(len(block)):
                nonce = block.nonces[i, : block.nonce_lengths[i]].tobytes()
                parts = [part.tobytes() for part in block.ciphertexts[i]]
                found.append(Row(parts, int(block.chunk_ids[i]), nonce or None))
        return found

    @rows.setter
    def rows(self, rows: list[Row]) -> None:
        if self.content_type == wire.MSGPACK:
            self.answer = msgspec.msgpack.encode([[row.ciphertexts, row.chunk_id, row.nonce] for row in rows])
            return
        count = max(len(row.ciphertexts) for row in rows)
        width = max(len(part) for row in rows for part in row.ciphertexts)
        parts = [frames.head(count, width, len(rows))]
        for start in range(0, len(rows), ROWS_A_BLOCK):
            share = rows[start : start + ROWS_A_BLOCK]
            ids = np.array([row.chunk_id & (2**64 - 1) for row in share], dtype=np.uint64).view(np.int64)
            padded = b"".join(part.ljust(width, b"\0") for row in share for part in row.ciphertexts)
            parts.append(frames.block(ids, np.frombuffer(padded, np.uint8), [row.nonce for row in share]))
        self.answer = b"".join([*parts, frames.end()])

    async def ask(self, headers: Mapping[str, str] | None = None, target: str | None = None, **changes: Any) -> None:
        """Asks the real server again, otherwise, and takes its answer."""
        request = json.dumps(self.body | changes).encode() if self.request else b""
        await self.forward(self.headers | dict(headers or {}), target or self.target, request)

    async def forward(self, headers: Mapping[str, str], target: str, request: bytes) -> None:
        got = await self.client.request(self.method, target, headers=headers, content=request)
        self.status, self.answer = got.status_code, got.content
        self.content_type = got.headers.get("content-type", "")


Lie = Callable[[Exchange], Awaitable[None] | None]


class Hostile:
    """The proxy; give clients its `url`."""

    def __init__(self, client: httpx2.AsyncClient, frames_allowed: bool) -> None:
        self._client = client
        self._frames_allowed = frames_allowed
        self.url = ""
        self.lie: Lie | None = None
        self.forwards: Callable[[Exchange], bool] = lambda exchange: True
        """Whether the real server gets a request; else the lie makes up the whole answer."""
        self.exchanges: list[Exchange] = []
        """All so far, as they were answered."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            exchange = await self._read(reader)
            if self.forwards(exchange):
                await exchange.forward(exchange.headers, exchange.target, exchange.request)
            if self.lie is not None and (waiting := self.lie(exchange)) is not None:
                await waiting
            self.exchanges.append(exchange)
            await (exchange.raw or self._say(exchange))(writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client, or the test, has had enough
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> Exchange:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:-2])}
        body = await reader.readexactly(int(headers.pop("content-length", "0")))
        kept = {name: value for name, value in headers.items() if name not in ("host", "connection")}
        if not self._frames_allowed:
            kept["accept"] = kept["accept"].replace(frames.MEDIA_TYPE, "text/none")
        return Exchange(method, target, kept, body, self._client)

    @staticmethod
    def _say(exchange: Exchange) -> Callable[[asyncio.StreamWriter], Awaitable[None]]:
        length = len(exchange.answer) if exchange.length is None else exchange.length
        headers = {"content-type": exchange.content_type, "content-length": str(length), "connection": "close"}
        lines = [f"{name}: {value}" for name, value in (headers | exchange.more_headers).items() if value]
        head = "\r\n".join([f"HTTP/1.1 {exchange.status} Said", *lines, "", ""]).encode()

        async def say(writer: asyncio.StreamWriter) -> None:
            writer.write(head + exchange.answer)
            await writer.drain()

        return say


@asynccontextmanager
async def hostile_server(real_url: str, frames_allowed: bool = True) -> AsyncIterator[Hostile]:
    """A hostile server in front of a real one; without frames it answers searches with MessagePack."""
    async with httpx2.AsyncClient(base_url=real_url, timeout=60) as client:
        hostile = Hostile(client, frames_allowed)
        listener = await asyncio.start_server(hostile.serve, "127.0.0.1", 0)
        hostile.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        try:
            yield hostile
        finally:
            listener.close()


def number(ciphertext: bytes) -> int:
    return int.from_bytes(ciphertext, "little")


def ciphertext(value: int, width: int) -> bytes:
    return value.to_bytes(width, "little")


def flipped(data: bytes, bit: int) -> bytes:
    """The data with one bit changed."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def flipped_text(stored: str, bit: int) -> str:
    """Base64 of the same data with one bit changed."""
    return base64.b64encode(flipped(base64.b64decode(stored), bit)).decode()
