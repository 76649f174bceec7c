"""Reads chunks in steps, and passes each step to a sink.

However many chunks are read, only one step of them is in memory besides the sink's output, and other requests run
between steps.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final, Protocol, TypeAlias

from xtrace_core.schemes.interface import Evaluation
from xtrace_core.schemes.registry import SchemeRegistry
from xtrace_core.wire import Chunk
from xtrace_server.auth.guard import Actor, ApiCaller
from xtrace_server.operations.evaluations import evaluation_of
from xtrace_server.operations.projections import Projection
from xtrace_server.storage import chunks, contexts
from xtrace_server.storage.chunks import StoredChunk
from xtrace_server.storage.database import Connection
from xtrace_server.storage.sizes import bounded_steps

_STEP: Final = 500
"""The maximum number of chunks that one step reads and converts, in a few milliseconds."""
_FEW: Final = 100
"""Up to this many chunks are converted in the event loop, more in a thread."""


Reader: TypeAlias = ApiCaller | Actor
"""Who may read chunks: an API key with the permission, or an organisation's admin key."""


class ChunkSink(Protocol):
    """Receives chunks step by step."""

    def encode(self, chunks: list[Chunk]) -> bytes:
        """Encodes a step of chunks, in any thread."""
        ...

    async def add(self, encoded: bytes) -> None:
        """Stores the encoded chunks of the next step."""
        ...

    def reserve(self, size: int) -> None:
        """Reserves memory (bytes) for the keys of the chunks. Raises `Overloaded`."""
        ...


async def read_chunks(
    connection: Connection, schemes: SchemeRegistry, pks: Sequence[int], shown: Projection, sink: ChunkSink
) -> None:
    """Passes the existing chunks with these keys to the sink, in this order; no step is empty."""
    evaluations: dict[int, Evaluation] = {}
    async for step in bounded_steps(connection, pks, _STEP):
        found = await chunks.read(connection, step, shown.fields)
        stored = [found[pk] for pk in step if pk in found]
        if not stored:
            continue
        if shown.fields.row:
            await _add_evaluations(connection, schemes, {chunk.binding_pk for chunk in stored}, evaluations)
        if len(stored) <= _FEW:
            encoded = sink.encode(_shown(shown, stored, evaluations))
        else:
            encoded = await asyncio.to_thread(lambda few: sink.encode(_shown(shown, few, evaluations)), stored)
        await sink.add(encoded)


async def _add_evaluations(
    connection: Connection, schemes: SchemeRegistry, binding_pks: set[int], evaluations: dict[int, Evaluation]
) -> None:
    missing = binding_pks - evaluations.keys()
    if missing:
        bindings = await contexts.bindings(connection, missing)
        public = await contexts.public_parts(connection, {bound.context_pk for bound in bindings.values()})
        evaluations |= {pk: evaluation_of(schemes, *public[bound.context_pk]) for pk, bound in bindings.items()}


def _shown(shown: Projection, stored: Sequence[StoredChunk], evaluations: Mapping[int, Evaluation]) -> list[Chunk]:
    if not shown.fields.row:
        return [shown.chunk(one, []) for one in stored]
    return [shown.chunk(one, evaluations[one.binding_pk].index(one.row)) for one in stored]
