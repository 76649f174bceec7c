"""Shared indexes: sealed copies of local indexes, which clients leave for each other."""

import re
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request, Response

from xtrace_core import wire
from xtrace_server.auth.guard import READER, WRITER, requires
from xtrace_server.errors import InvalidRequest
from xtrace_server.http.answers import FOREVER, json_answer
from xtrace_server.http.bodies import body_of, octets_of
from xtrace_server.http.described import CONTEXT_ID, KB_ID, Parameter, describes
from xtrace_server.http.direct import DirectRoute
from xtrace_server.http.requests import ApiCallerDep, RunningDep, StateDep, query_string
from xtrace_server.operations import shared_indexes
from xtrace_server.operations.shared_indexes import Place

router = APIRouter(prefix="/v1/local", route_class=DirectRoute)

_KIND: Final = Parameter("kind", {"type": "string", "pattern": wire.INDEX_KIND}, required=True)
_SHA256: Final = Parameter("sha256", {"type": "string", "pattern": wire.SHA256_HEX}, required=True)
_PLACE: Final = (KB_ID, CONTEXT_ID, _KIND)


@router.get("/index/{org}")
@requires(READER)
@describes(wire.SharedIndex, *_PLACE)
async def get(request: Request, state: StateDep, caller: ApiCallerDep) -> Response:
    """Returns a shared index, and which segments it has; version 0 and nothing else if there is none."""
    found = await shared_indexes.find(state, caller, _place(request))
    if found is None:
        return json_answer(wire.SharedIndex(0, b"", []))
    segments = [wire.IndexSegment(one.sha256.hex(), one.size) for one in found.segments]
    return json_answer(wire.SharedIndex(found.version, found.manifest, segments))


@router.put("/index/{org}")
@requires(WRITER)
@describes(wire.SharedIndexVersion, statuses=(409,))
async def put(
    state: StateDep,
    caller: ApiCallerDep,
    body: Annotated[wire.PutSharedIndex, Depends(body_of(wire.PutSharedIndex))],
) -> Response:
    """Stores a shared index of stored segments, if the current one still has the version that it replaces."""
    return json_answer(wire.SharedIndexVersion(await shared_indexes.put(state, caller, body)))


@router.delete("/index/{org}")
@requires(WRITER)
@describes(wire.Acknowledgement, *_PLACE)
async def remove(request: Request, state: StateDep, caller: ApiCallerDep) -> Response:
    """Removes a shared index, if any, and every segment of its kind."""
    await shared_indexes.remove(state, caller, _place(request))
    return json_answer(wire.Acknowledgement())


@router.get("/segment/{org}")
@requires(READER)
@describes(None, *_PLACE, _SHA256, media_types=(wire.SEGMENT_MEDIA_TYPE,))
async def get_segment(request: Request, state: StateDep, caller: ApiCallerDep, running: RunningDep) -> Response:
    """Returns the bytes of a stored segment, which never change."""
    sha256 = bytes.fromhex(_matching(request, "sha256", wire.SHA256_HEX, "64 hexadecimal digits in lower case"))

    async def reserve(size: int) -> None:
        await running.take("answers", 2 * size)

    body = await shared_indexes.read_segment(state, caller, _place(request), sha256, reserve)
    return Response(body, media_type=wire.SEGMENT_MEDIA_TYPE, headers={"cache-control": FOREVER})


@router.post("/segment/{org}")
@requires(WRITER)
@describes(wire.IndexSegment, *_PLACE, statuses=(409,))
async def add_segment(
    request: Request,
    state: StateDep,
    caller: ApiCallerDep,
    body: Annotated[bytes, Depends(octets_of(wire.MAX_SEGMENT_BYTES, "a segment"))],
) -> Response:
    """Stores a segment, which a shared index can then list; the same one again changes nothing."""
    stored = await shared_indexes.add_segment(state, caller, _place(request), body)
    return json_answer(wire.IndexSegment(stored.sha256.hex(), stored.size))


def _place(request: Request) -> Place:
    kind = _matching(request, "kind", wire.INDEX_KIND, "at most 32 of a-z, 0-9 and -, beginning with a letter")
    return Place(query_string(request, "kb_id"), query_string(request, "context_id"), kind)


def _matching(request: Request, name: str, pattern: str, expected: str) -> str:
    """Returns a query parameter that must match the pattern. Raises `InvalidRequest`."""
    text = query_string(request, name)
    if re.match(pattern, text) is None:
        raise InvalidRequest(f"got {text[:64]!r} as query parameter {name}, expected {expected}")
    return text
