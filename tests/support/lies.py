"""Hostile answers by number: each kind of lie changes a true answer, or makes one up, as a seed says."""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from support.hostile_server import Exchange
from support.limited_client import MAX_ANSWER_BYTES
from xtrace_core import frames, wire
from xtrace_core.limits import MAX_BLOCK_ROWS
from xtrace_sdk.limits import MAX_DIMENSIONS, MAX_NUMBER_BYTES

Lie = Callable[[Exchange, random.Random], None]

JSON_VALUES = [
    "null", "true", "0", "-1", "1", "2147483648", "9223372036854775807", "9223372036854775808", "1" + "0" * 400,
    "9" * 5000, "1.5", "1e308", "1e999", "NaN", "Infinity", '""', '"x"', '"' + "x" * 100_000 + '"',
    '"\\u0000\\u001b[2J"', '"\\ud800"', '"' + "é" * 1000 + '"', '"AA=="', '"' + "A" * 400 + '"',
    '"' + "A" * 4000 + '"', "[]", "{}", '{"a":1}', "[" + "[]," * 1000 + "[]]", "[" * 300 + "]" * 300, "[" * 100_000,
    '{"a":' * 300 + "1" + "}" * 300, "[1", '"', "", '"\xff"', "\u2028", "['x']", "+1", "01", "1 2",
]  # fmt: skip
PACKED_VALUES = [
    b"\xc0", b"\xc3", b"\x00", b"\xff", b"\x7f", b"\xcf" + b"\xff" * 8, b"\xd3" + b"\x80" + bytes(7),
    b"\xcb" + b"\x7f" * 8, b"\xa1x", b"\xdb\xff\xff\xff\xff", b"\xc4\x00", b"\xc4\xff" + bytes(255),
    b"\xc5\x01\x2c" + b"n" * 300, b"\xc6\xff\xff\xff\xff", b"\xc6\x00\x0f\x42\x40" + bytes(10**6), b"\x90",
    b"\x91" * 500 + b"\xc0", b"\xdc\xff\xff", b"\xdd\xff\xff\xff\xff", b"\x80", b"\x81\xa1a\x01",
    b"\xdf\xff\xff\xff\xff", b"\xd6\xff\xff\xff\xff\xff", b"\xc1", b"",
]  # fmt: skip
NUMBERS = [0, 1, 2, 3, 127, 255, 256, 1000, 4096, 65_535, 2**20, 2**26, 2**31, 2**32 - 1]
STATUSES = [
    200,
    201,
    202,
    204,
    206,
    299,
    300,
    301,
    304,
    307,
    400,
    401,
    403,
    404,
    405,
    408,
    409,
    413,
    414,
    415,
    418,
    422,
]
STATUSES += [425, 429, 431, 451, 499, 500, 501, 502, 503, 504, 507, 511, 599, 600, 999]
TYPES = [
    "application/json", wire.MSGPACK, frames.MEDIA_TYPE, "text/html", "", "application/json; charset=utf-16",
    "x" * 5000,
]  # fmt: skip
HEADERS = [
    {"retry-after": "Thu, 01 Jan 99999999999 00:00:00 GMT"}, {"retry-after": "9" * 5000}, {"retry-after": "-1"},
    {"location": "http://["}, {"location": "//"}, {"location": "x" * 9000}, {"content-encoding": "gzip"},
    {"content-encoding": "identity"}, {"set-cookie": "a=b; Expires=" + "9" * 2000}, {"set-cookie": "=" * 3000},
    {"transfer-encoding": "chunked"}, {"content-length": "7"}, {"connection": "keep-alive"}, {"x": "y" * 60_000},
    {"content-type": "application/json"}, {"trailer": "x"}, {"upgrade": "h2c"},
]  # fmt: skip
RAW = [
    b"", b"\r\n\r\n", b"HTTP/1.1 200 OK", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 99999 OK\r\n\r\n",
    b"HTTP/9.9 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: " + b"9" * 5000 + b"\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx", b"HTTP/1.1 200 OK\r\n: x\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n",
    b"HTTP/1.1 200 OK\r\nx\x00y: z\r\n\r\n", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"f" * 5000,
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: x\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n" + b"1\r\n[\r\n" * 2000,
    b"HTTP/1.1 101 Switching\r\n\r\n" + b"x" * 100, b"HTTP/1.1 200 \xff\xff\r\ncontent-type: \xff\xfe\r\n\r\n{}",
    b"HTTP/1.1 100 Continue\r\n\r\n" * 50 + b"HTTP/1.1 204 No\r\n\r\n", b"\x16\x03\x01\x02\x00" * 50,
    b"PRI * HTTP/2.0\r\n\r\n",
]  # fmt: skip
JSON = "application/json"
_PAGE = b'],"total":9,"limit":9,"offset":0,"has_more":false,"next_page_token":null}'


@dataclass(frozen=True)
class Bomb:
    """An answer that takes as much memory as one of its length can: a beginning, what is repeated, and an end."""

    endpoint: str
    """The call of the HTTP contract that it is meant for."""
    calls: list[str]
    """The calls of the client that make this one."""
    kind: str
    beginning: bytes
    repeated: Callable[[int], bytes]
    """The n-th repetition, from 1."""
    ending: bytes = b""
    most: int = MAX_ANSWER_BYTES
    """Bytes that such an answer may have."""

    def answer(self, size: int) -> bytes:
        """It, in at most so many bytes."""
        joiner = b"," if self.kind == JSON else b""
        room = min(size, self.most) - len(self.beginning) - len(self.ending) - 20  # a head, of either format
        count = room // len(joiner + self.repeated(10**6))
        parts = joiner.join(map(self.repeated, range(1, count + 1)))
        beginning = self.beginning
        if self.kind == wire.MSGPACK:
            beginning += b"\xdd" + count.to_bytes(4, "big")
        elif self.kind == frames.MEDIA_TYPE:
            beginning += frames.head(1, 1, MAX_BLOCK_ROWS * count)
        return beginning + parts + self.ending


def _block(number: int) -> bytes:
    """As many rows as a block may have, each with one ciphertext of one byte."""
    ids = range((number - 1) * MAX_BLOCK_ROWS + 1, number * MAX_BLOCK_ROWS + 1)
    head = MAX_BLOCK_ROWS.to_bytes(4, "little") + b"\0"
    return head + b"".join(i.to_bytes(8, "little") for i in ids) + bytes(2 * MAX_BLOCK_ROWS)


def _always(part: bytes) -> Callable[[int], bytes]:
    return lambda number: part


_MODEL = "POST "
"""A call of no part of the contract."""
_VECTORS = 2 * MAX_DIMENSIONS * MAX_NUMBER_BYTES
_SEARCHES = ["XTraceIntegration.stream_hamming_distances", "Retriever.nn_search_for_ids"]
_SEARCHES += ["a search of what a rotation has not moved"]
_PAGES = ["XTraceIntegration.meta_search_paginated", "XTraceIntegration.iter_meta_search", "verify", "rotate"]
_IDS = ["XTraceIntegration.get_chunk_by_id", "Retriever.retrieve_and_decrypt"]
BOMBS = {
    "chunks with nothing but an id": Bomb(
        "GET chunk", _IDS, JSON, b"[", lambda number: b'{"chunk_id":%d}' % number, b"]"
    ),
    "a search's chunks with nothing but an id": Bomb(
        "POST chunk/meta", ["XTraceIntegration.meta_search"], JSON, b"[", lambda i: b'{"chunk_id":%d}' % i, b"]"
    ),
    "a page of chunks with nothing but an id": Bomb(
        "POST chunk/meta/page", _PAGES, JSON, b'{"results":[', lambda number: b'{"chunk_id":%d}' % number, _PAGE
    ),
    "metadata of a character": Bomb(
        "POST chunk/meta",
        ["XTraceIntegration.meta_search"],
        JSON,
        b"[",
        lambda number: b'{"chunk_id":%d,"meta_data":{"tag1":"xy"}}' % number,
        b"]",
    ),
    "facets": Bomb(
        "POST chunk/meta",
        ["XTraceIntegration.meta_search"],
        JSON,
        b'[{"chunk_id":1,"meta_data":{"facets":[',
        _always(b'"ab"'),
        b"]}}]",
    ),
    "ciphertexts of a byte": Bomb("GET chunk", _IDS, JSON, b'[{"chunk_id":1,"index":[', _always(b'"AA=="'), b"]}]"),
    "ids": Bomb(
        "POST chunk",
        ["XTraceIntegration.insert_chunks", "DataLoader.load"],
        JSON,
        b'{"chunk_ids":[',
        _always(b"999"),
        b"]}",
    ),
    "lists": Bomb("PUT chunk", ["XTraceIntegration.update_chunks"], JSON, b'{"x":[', _always(b"[]"), b"]}"),
    "objects": Bomb("PATCH chunk", ["XTraceIntegration.patch_chunks"], JSON, b'{"x":[', _always(b"{}"), b"]}"),
    "names": Bomb(
        "POST chunk/names",
        ["XTraceIntegration.find_chunk_names", "DataLoader.load"],
        JSON,
        b'{"chunk_ids":{',
        lambda number: b'"%d":1' % number,
        b"}}",
    ),
    "ranges": Bomb(
        "POST local/changes",
        ["XTraceIntegration.local_changes"],
        JSON,
        b'{"revision":9,"chunk_ids":[],"has_more":false,"living":[',
        lambda number: b"[%d,%d]" % (2 * number, 2 * number),
        b"]}",
    ),
    "names of contexts": Bomb(
        "GET exec_context", ["XTraceIntegration.list_exec_contexts"], JSON, b'{"contexts":[', _always(b'"ab"'), b"]}"
    ),
    "one text, wide because of its first character": Bomb(
        "GET exec_context",
        ["XTraceIntegration.list_exec_contexts"],
        JSON,
        '{"contexts":["😀'.encode(),
        _always(b"x" * 1000),
        b'"]}',
    ),
    "an array in arrays": Bomb(
        "POST chunk/meta", ["XTraceIntegration.meta_search"], JSON, b"[", _always(b"[[[[[[[[]]]]]]]]"), b"]"
    ),
    "packed rows of a byte": Bomb(
        "POST compute_hamming",
        ["XTraceIntegration.compute_hamming_distances", *_SEARCHES],
        wire.MSGPACK,
        b"",
        lambda number: b"\x92\x91\xc4\x01x\xce" + number.to_bytes(4, "big"),
    ),
    "framed rows of a byte": Bomb("POST compute_hamming", _SEARCHES, frames.MEDIA_TYPE, b"", _block, frames.end()),
    "numbers": Bomb(
        _MODEL,
        ["Embedding.embed", "Embedding.bin_embed_many"],
        JSON,
        b'{"embeddings":[[',
        _always(b"0"),
        b"]]}",
        _VECTORS,
    ),
    "vectors of nothing": Bomb(
        _MODEL,
        ["Embedding.embed", "Embedding.bin_embed_many"],
        JSON,
        b'{"embeddings":[',
        _always(b"[]"),
        b"]}",
        _VECTORS,
    ),
}


def field_of_json(exchange: Exchange, chance: random.Random) -> None:
    """Puts another value in the place of one, takes it away, or repeats it."""
    try:
        tree = json.loads(exchange.answer or b"{}")
    except ValueError:
        return bytes_(exchange, chance)
    holder = {"": tree}
    container, key = chance.choice(list(_places(holder)))
    mark = "a hostile value"
    deed = chance.randrange(6)
    if deed == 0 and isinstance(container, list):
        container[key:key] = [container[key]] * chance.choice([1, 2, 1000])
    elif deed == 0 and container is not holder:
        container["more"] = mark
    elif deed == 1 and container is not holder:
        del container[key]
    else:
        container[key] = mark
    text = json.dumps(holder[""]).replace(json.dumps(mark), chance.choice(JSON_VALUES))
    if deed == 2 and isinstance(key, str) and key:  # the key twice
        name = json.dumps(key)
        text = text.replace(f"{name}:", f"{name}: {chance.choice(JSON_VALUES)}, {name}:", 1)
    exchange.content_type, exchange.answer = JSON, text.encode("utf-8", "surrogatepass")
    return None


def _places(node: Any) -> Any:
    """Every place in a tree where a value is: what holds it, and its key there."""
    keys = node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    for key in list(keys):
        yield node, key
        yield from _places(node[key])


def part_of_rows(exchange: Exchange, chance: random.Random) -> None:
    """Puts another value in the place of one in a search's answer, or another number in the head of one or a block."""
    if exchange.content_type == wire.MSGPACK:
        holder = [msgspec.msgpack.decode(exchange.answer)]
        container, key = chance.choice(list(_places(holder)))
        mark = b"\xc4\x0fa hostile value"
        container[key] = mark[2:]
        exchange.answer = msgspec.msgpack.encode(holder[0]).replace(mark, chance.choice(PACKED_VALUES))
    elif exchange.content_type == frames.MEDIA_TYPE:
        at, width = chance.choice([(4, 4), (8, 4), (12, 8), (20, 4), (24, 1), (25, 8), (len(exchange.answer) - 4, 4)])
        number = min(chance.choice(NUMBERS), 256**width - 1)
        exchange.answer = exchange.answer[:at] + number.to_bytes(width, "little") + exchange.answer[at + width :]
    else:
        field_of_json(exchange, chance)


def bytes_(exchange: Exchange, chance: random.Random) -> None:
    """Changes, takes away, adds or repeats some bytes anywhere."""
    data, at = exchange.answer, chance.randrange(len(exchange.answer) + 1)
    size = chance.choice([1, 2, 7, 100, 5000])
    exchange.answer = chance.choice(
        [
            data[:at],
            data[:at] + chance.randbytes(size) + data[at:],
            data[:at] + data[at + size :],
            data[:at] + chance.randbytes(size) + data[at + size :],
            data + data,
            data[at:],
        ]
    )


def made_up(exchange: Exchange, chance: random.Random) -> None:
    """Says something else altogether."""
    what = chance.randrange(4)
    if what == 0:
        exchange.answer = chance.randbytes(chance.choice([0, 1, 30, 5000]))
    elif what == 1:
        exchange.content_type, exchange.answer = JSON, _random_json(chance, 4).encode("utf-8", "replace")
    elif what == 2:
        exchange.content_type = wire.MSGPACK
        exchange.answer = b"".join(chance.choices(PACKED_VALUES, k=chance.randrange(6)))
    else:
        exchange.content_type = frames.MEDIA_TYPE
        count, width, rows = (chance.choice(NUMBERS) for _ in range(3))
        exchange.answer = frames.head(count, width, rows) + chance.randbytes(chance.choice([0, 5, 300]))


def _random_json(chance: random.Random, depth: int) -> str:
    if depth == 0 or chance.random() < 0.3:
        return chance.choice(JSON_VALUES)
    names = ["results", "total", "chunk_ids", "chunk_id", "data", "index", "nonce", "pk", "config", "has_more", "x"]
    if chance.random() < 0.5:
        return "[" + ",".join(_random_json(chance, depth - 1) for _ in range(chance.randrange(4))) + "]"
    members = (f'"{chance.choice(names)}":{_random_json(chance, depth - 1)}' for _ in range(chance.randrange(5)))
    return "{" + ",".join(members) + "}"


def head(exchange: Exchange, chance: random.Random) -> None:
    """Another status, type or header."""
    what = chance.randrange(4)
    if what == 0:
        exchange.status = chance.choice(STATUSES)
    elif what == 1:
        exchange.content_type = chance.choice(TYPES)
    elif what == 2:
        exchange.more_headers = dict(chance.choice(HEADERS))
    else:
        exchange.length = chance.choice(
            [0, 1, len(exchange.answer) + 1, 10**9, 10**30, max(len(exchange.answer) - 1, 0)]
        )
    if chance.random() < 0.3:
        exchange.status = chance.choice(STATUSES)


def no_http(exchange: Exchange, chance: random.Random) -> None:
    """Something that is no HTTP, or ends before it should."""
    exchange.raw = saying(chance.choice([*RAW, chance.randbytes(chance.choice([1, 100, 20_000]))]))


def saying(said: bytes) -> Callable[[asyncio.StreamWriter], Awaitable[None]]:
    """Says just this and hangs up."""

    async def say(writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await writer.drain()

    return say


def bomb(exchange: Exchange, chance: random.Random) -> None:
    """As many small values as an answer may have bytes, or one long one."""
    chosen = BOMBS[chance.choice(list(BOMBS))]
    exchange.content_type, exchange.answer = (
        chosen.kind,
        chosen.answer(chance.choice([1000, 100_000, MAX_ANSWER_BYTES])),
    )


KINDS: dict[str, Lie] = {
    lie.__name__: lie for lie in (field_of_json, part_of_rows, bytes_, made_up, head, no_http, bomb)
}
"""By their names."""
