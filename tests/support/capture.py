"""What a client sends, kept where it leaves, and a look for anything in it that is encrypted under given keys.

The look shares no code with the SDK's schemes: plain Paillier with the two primes, and the content cipher under every
nonce that is known.
"""

import base64
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import httpx2
import msgspec
from gmpy2 import powmod

from xtrace_core.wire import MSGPACK
from xtrace_sdk.errors import ContentTampered
from xtrace_sdk.x_vec.chunks.cipher import ContentCipher


class Capture(httpx2.AsyncBaseTransport):
    """The network, with every request's body kept."""

    def __init__(self) -> None:
        self._network = httpx2.AsyncHTTPTransport()
        self.sent = Sent()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.sent.add(await request.aread(), request.headers.get("content-type", ""))
        return await self._network.handle_async_request(request)

    async def aclose(self) -> None:
        await self._network.aclose()


@dataclass
class Sent:
    """The encrypted parts of requests."""

    ciphertexts: list[int] = field(default_factory=list)
    contents: list[str] = field(default_factory=list)
    nonces: set[bytes] = field(default_factory=set)
    calls: set[str] = field(default_factory=set)
    """Which kinds of bodies held them."""

    def add(self, body: bytes, content_type: str) -> None:
        if not body:
            return
        is_packed = content_type == MSGPACK
        parsed = msgspec.msgpack.decode(body) if is_packed else json.loads(body)
        for name, value in _walk(parsed):
            if name in ("query", "queries", "index"):
                self.calls.add(name)
                self.ciphertexts += [_number(one, is_packed) for one in _leaves(value)]
            elif name == "chunk_content":
                self.calls.add(name)
                self.contents.append(value)
            elif name == "nonce" and value:
                self.nonces.add(value if is_packed else base64.b64decode(value))


def _walk(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, part in value.items():
            yield name, part
            yield from _walk(part)
    elif isinstance(value, list):
        for part in value:
            yield from _walk(part)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for part in value:
            yield from _leaves(part)
    else:
        yield value


def _number(sent: Any, is_packed: bool) -> int:
    return int.from_bytes(sent if is_packed else base64.b64decode(sent), "little")


@dataclass(frozen=True)
class Keys:
    """Old keys, as a thief has them."""

    p: int
    q: int
    g: int
    cipher: ContentCipher

    def encrypted_under(self, sent: Sent, nonces: Iterable[bytes]) -> tuple[list[int], list[bytes]]:
        """The ciphertexts that are vectors under the keys (the constant 1 apart, which nobody encrypted), and texts."""
        vectors = [c for c in set(sent.ciphertexts) if c != 1 and _is_vector(self._message(c))]
        tried = {*nonces, *sent.nonces, b""}
        return vectors, [text for stored in sent.contents for nonce in tried if (text := self._text(stored, nonce))]

    def _message(self, c: int) -> int | None:
        n, square = self.p * self.q, (self.p * self.q) ** 2
        if not 0 < c < square or c % self.p == 0 or c % self.q == 0:
            return None
        return self._logarithm(c) * self._inverse % n

    @cached_property
    def _inverse(self) -> int:
        return pow(self._logarithm(self.g), -1, self.p * self.q)

    def _logarithm(self, c: int) -> int:
        n, phi = self.p * self.q, (self.p - 1) * (self.q - 1)
        return (int(powmod(c, phi, n * n)) - 1) // n

    def _text(self, stored: str, nonce: bytes) -> bytes | None:
        try:
            return self.cipher.decrypt_bytes(stored, nonce)
        except ContentTampered:
            return None


def _is_vector(message: int | None) -> bool:
    """Whether it is a vector's encoding in base 4, of at most 64 positions: a random number is none."""
    return message is not None and message < 4**64 and not message & int("10" * 64, 2)
