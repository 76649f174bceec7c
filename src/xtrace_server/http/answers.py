"""The bodies of answers in JSON; long ones go out in pieces."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import msgspec
from fastapi import Response
from fastapi.responses import StreamingResponse

from xtrace_core.wire import Chunk

_JSON: Final = "application/json"
_PIECE_BYTES: Final = 256 * 1024

_encoder = msgspec.json.Encoder()


def json_answer(value: Any) -> Response:
    """200 with the value as JSON."""
    return Response(_encoder.encode(value), media_type=_JSON)


def chunk_elements(chunks: list[Chunk]) -> bytes:
    """Returns the chunks as they stand in a JSON list, without its brackets."""
    return msgspec.json.encode(chunks)[1:-1]


def list_pieces(elements: Sequence[bytes]) -> list[bytes]:
    """Returns the pieces of a JSON list of elements that come in steps."""
    pieces = [b"["]
    for step in elements:
        pieces += [step] if len(pieces) == 1 else [b",", step]
    return [*pieces, b"]"]


def json_pieces(pieces: Sequence[bytes]) -> Response:
    """200 with the pieces as one JSON text; a long one goes out as fast as it is read."""
    size = sum(map(len, pieces))
    if size <= _PIECE_BYTES:
        return Response(b"".join(pieces), media_type=_JSON)
    return StreamingResponse(_in_turn(pieces), media_type=_JSON, headers={"content-length": str(size)})


async def _in_turn(pieces: Sequence[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        for start in range(0, len(piece), _PIECE_BYTES):
            yield piece[start : start + _PIECE_BYTES]
