"""What a client that keeps an index of its own needs beside the chunks."""

from collections.abc import Sequence
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Response

from xtrace_core import wire
from xtrace_server.auth.guard import READER, requires
from xtrace_server.http.answers import json_answer
from xtrace_server.http.bodies import body_of
from xtrace_server.http.chunk_answer import ChunkAnswer
from xtrace_server.http.described import describes
from xtrace_server.http.requests import ApiCallerDep, RunningDep, StateDep
from xtrace_server.operations import local_index

router = APIRouter(prefix="/v1/local")

_LIVING = b'{"living":['
"""How the JSON of an answer with ranges begins: with the field that its struct begins with."""


class _Ranges:
    """Ranges on their way into an answer."""

    def __init__(self, answer: ChunkAnswer) -> None:
        self._answer = answer

    async def add_ranges(self, ranges: Sequence[tuple[int, int]]) -> None:
        await self._answer.add(msgspec.json.encode(ranges)[1:-1])


@router.post("/changes/{org}")
@requires(READER)
@describes(wire.ChunkChanges)
async def changes(
    state: StateDep,
    caller: ApiCallerDep,
    running: RunningDep,
    body: Annotated[wire.FindChanges, Depends(body_of(wire.FindChanges))],
) -> Response:
    """Which chunks were written under the context after a revision of the knowledge base, and which are left."""
    answer = ChunkAnswer(running, state.settings.data, _LIVING)
    found = await local_index.changes(state, caller, body, _Ranges(answer))
    if found.living is None:
        return json_answer(found)
    return await answer.response(msgspec.json.encode(found).removeprefix(_LIVING))
