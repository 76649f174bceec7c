"""What a client that keeps an index of its own asks for: what has changed since it last asked."""

from collections.abc import Sequence
from typing import Protocol

from xtrace_core import wire
from xtrace_server.auth.guard import ApiCaller
from xtrace_server.state import ServerState
from xtrace_server.storage import chunk_changes, contexts
from xtrace_server.storage.schema import MAX_CHUNK_ID, chunk_id_of, chunk_pk


class RangeSink(Protocol):
    """Where ranges of ids go, part by part."""

    async def add_ranges(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Adds some, at least one, behind those before."""
        ...


async def changes(
    state: ServerState, caller: ApiCaller, body: wire.FindChanges, living: RangeSink
) -> wire.ChunkChanges:
    """Returns the chunks that were written under the context after the revision; the ranges go to the sink.

    They are read only if this server does not remember what was deleted since, or that is too much. So `living` of what
    is returned is empty, or None if the answer has none. Nothing that is stored counts as a chunk
    of a context that does not exist. Raises `KnowledgeBaseNotFound`.
    """
    async with state.database.read(caller.organisation_id) as connection:
        kb = await caller.knowledge_base(connection, body.kb_id)
        answer = wire.ChunkChanges(living=None, revision=kb.revision, chunk_ids=[], has_more=False)
        if kb.revision <= body.since:
            return answer
        binding = await contexts.binding_of(connection, caller.organisation_id, kb, body.context_id)
        if binding is not None:
            after_pk = chunk_pk(kb.pk, min(body.after, MAX_CHUNK_ID))
            found = await chunk_changes.written_since(connection, binding, body.since, after_pk, body.limit + 1)
            answer.chunk_ids, answer.has_more = found[: body.limit], len(found) > body.limit
        if not answer.has_more and 0 < body.since < kb.removal_revision:
            removed = None if binding is None else state.engine.removed_since(kb, body.since)
            if removed is not None and len(removed) <= wire.MAX_CHANGES:
                answer.gone = [chunk_id_of(pk) for pk in sorted(set(removed.tolist()))]
                return answer
            answer.living = []
            if binding is not None:
                async for ranges in chunk_changes.living_ranges(connection, binding):
                    await living.add_ranges(ranges)
    return answer
