"""What several routes share: chunks as the JSON of an answer, read and written step by step.

However many chunks an answer has, only a step of them is in memory beside the bytes that are to be sent, and other
requests go on between two steps.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

import msgspec
from fastapi import Response
from fastapi.responses import StreamingResponse
from sqlalchemy.ext.asyncio import AsyncConnection

from xtrace_core.schemes.interface import Evaluation
from xtrace_core.schemes.registry import SchemeRegistry
from xtrace_server.http.answers import Projection, chunk_list, evaluation
from xtrace_server.storage import chunks, contexts

_JSON: Final = "application/json"
_STEP: Final = 500
"""So many chunks are read and converted at a time: a few milliseconds' work."""
_FEW: Final = 100
"""Up to so many are converted where they are; more in a thread."""
_PIECE_BYTES: Final = 256 * 1024


async def read_chunks(
    connection: AsyncConnection, schemes: SchemeRegistry, pks: Sequence[int], shown: Projection
) -> list[bytes]:
    """The chunks with these keys that exist, in this order: pieces of a JSON array, with its brackets."""
    pieces = [b"["]
    evaluations: dict[int, Evaluation] = {}
    for start in range(0, len(pks), _STEP):
        step = pks[start : start + _STEP]
        found = await chunks.read(connection, step, shown.fields)
        stored = [found[pk] for pk in step if pk in found]
        if not stored:
            continue
        if shown.fields.row:
            await _add_evaluations(connection, schemes, {chunk.binding_pk for chunk in stored}, evaluations)
        if len(pieces) > 1:
            pieces.append(b",")
        if len(stored) <= _FEW:
            pieces.append(_elements(shown, stored, evaluations))
        else:
            pieces.append(await asyncio.to_thread(_elements, shown, stored, evaluations))
    pieces.append(b"]")
    return pieces


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


async def _add_evaluations(
    connection: AsyncConnection, schemes: SchemeRegistry, binding_pks: set[int], evaluations: dict[int, Evaluation]
) -> None:
    missing = binding_pks - evaluations.keys()
    if missing:
        bindings = await contexts.bindings(connection, missing)
        public = await contexts.public_parts(connection, {bound.context_pk for bound in bindings.values()})
        evaluations |= {pk: evaluation(schemes, *public[bound.context_pk]) for pk, bound in bindings.items()}


def _elements(shown: Projection, stored: Sequence[chunks.StoredChunk], evaluations: Mapping[int, Evaluation]) -> bytes:
    return msgspec.json.encode(chunk_list(shown, stored, evaluations))[1:-1]
