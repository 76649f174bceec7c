"""What several routes share: reading chunks with a projection."""

import asyncio
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from xtrace_core.evaluation import Evaluation
from xtrace_core.wire import Chunk
from xtrace_server.api.answers import Projection, chunk_list, evaluation
from xtrace_server.storage import chunks, contexts

_FEW = 200
"""Up to so many chunks are converted where they are; more in a thread, so that other requests go on."""


async def read_chunks(connection: AsyncConnection, pks: Sequence[int], shown: Projection) -> list[Chunk]:
    """The chunks with these keys that exist, in this order."""
    found = await chunks.read(connection, pks, shown.parts)
    stored = [found[pk] for pk in pks if pk in found]
    evaluations: dict[int, Evaluation] = {}
    if shown.parts.row and stored:
        bindings = await contexts.bindings(connection, {chunk.binding_pk for chunk in stored})
        public = await contexts.public_parts(connection, {bound.context_pk for bound in bindings.values()})
        evaluations = {pk: evaluation(*public[bound.context_pk]) for pk, bound in bindings.items()}
    if len(stored) <= _FEW:
        return chunk_list(shown, stored, evaluations)
    return await asyncio.to_thread(chunk_list, shown, stored, evaluations)
