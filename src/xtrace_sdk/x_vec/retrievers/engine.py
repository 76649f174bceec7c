"""The common part of all searches: the encrypted scan under a context and its predecessor, and reading the results."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import reduce
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xtrace_core.frames import RowBlock
from xtrace_core.secrecy import Secretive
from xtrace_sdk.service.integration import XTraceIntegration
from xtrace_sdk.stages import stage
from xtrace_sdk.x_vec.chunks.private_metadata import Projection
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.contexts.lineage import of_each
from xtrace_sdk.x_vec.retrievers.block_searching import BlockSearching
from xtrace_sdk.x_vec.retrievers.contents import Contents, Decrypted, Search, filters_of
from xtrace_sdk.x_vec.retrievers.decoys import ChunkIds, Decoys
from xtrace_sdk.x_vec.retrievers.emptiness import explain_emptiness
from xtrace_sdk.x_vec.retrievers.planning import SearchPlan
from xtrace_sdk.x_vec.retrievers.readings import Readings
from xtrace_sdk.x_vec.retrievers.scan import Nearest, nearest_rows, union
from xtrace_sdk.x_vec.retrievers.scope import SearchScope
from xtrace_sdk.x_vec.retrievers.stored_rows import StoredRows


class Found(NamedTuple):
    """The results of one search."""

    nearest: list[Nearest]
    """The nearest chunks for each query, nearest first."""
    candidates: int
    """The number of candidates."""
    plan: SearchPlan | None
    """How vectors were compared, for a scheme with blocks."""


class _Answer(NamedTuple):
    """The results of a search under one context."""

    nearest: list[Nearest]
    candidates: ChunkIds
    plan: SearchPlan | None = None
    readings: Readings | None = None
    """Of a search by blocks, whose results the records must confirm."""


class SearchEngine(Secretive):
    """Searches under one context, with decoys that stay the same for the lifetime of their groups."""

    def __init__(self, context: ExecutionContext, integration: XTraceIntegration, decoys: Decoys) -> None:
        self._context = context
        self._integration = integration
        for one in context.lineage:
            integration.declare_private(one.id, one.private_metadata)
        self._decoys = decoys
        before = context.predecessor
        self._stored_rows = None if before is None else StoredRows(before.homomorphic, before.accepted)
        scheme = context.homomorphic.blocks
        self._blocks = None if scheme is None else BlockSearching(context, scheme, integration)

    async def decrypted(
        self, chunk_ids: Sequence[int], kb_id: str, projection: Sequence[str], decoys: int, contents: Contents
    ) -> list[Decrypted]:
        """See `Retriever.retrieve_and_decrypt`; applies to the results of the searches that `contents` remembers.

        For results of searches by blocks, the records of all chunks are fetched too, and confirm the distances. Raises
        `InvalidRows` if one does not.
        """
        searches, asked = contents.searches(kb_id, chunk_ids), sorted(set(chunk_ids))
        unconfirmed = {id(one.readings): one.readings for one in searches.values() if one.readings is not None}
        filters = filters_of(searches, with_decoys=decoys > 0)
        if decoys:
            among = {chunk_id: search.candidates for chunk_id, search in searches.items()}
            asked = await asyncio.to_thread(self._decoys.together_with, asked, among, decoys)
        wanted = Projection(self._context, projection, is_filtered=bool(filters), is_confirmed=bool(unconfirmed))
        with stage("fetch"):
            chunks = await self._integration.get_chunk_by_id(asked, kb_id, projection=wanted.fetched)
        with stage("decrypt"):
            if unconfirmed:
                readings = list(unconfirmed.values()) if decoys else []
                await asyncio.to_thread(contents.confirm, kb_id, chunks, readings)
            opened = await asyncio.to_thread(
                lambda: [contents.decrypted(kb_id, chunk, wanted, filters) for chunk in chunks]
            )
        moved = {c["chunk_id"]: c.get("nonce") for c, one in zip(chunks, opened, strict=True) if one.has_moved}
        # Only found chunks can be known to have moved, so with decoys this must not depend on whether one has.
        looked_at = asked if decoys and self._context.predecessor is not None else sorted(moved)
        if looked_at:
            vectors = await self._integration.get_chunk_by_id(looked_at, kb_id, projection=["index", "nonce"])
            found = [chunk for chunk in vectors if chunk["chunk_id"] in moved]
            await asyncio.to_thread(contents.check_same_vectors, kb_id, found, moved)
        decrypted = {one.chunk["chunk_id"]: one for one in opened}
        return [decrypted[chunk_id] for chunk_id in chunk_ids if chunk_id in decrypted]

    async def nearest(
        self, vectors: Sequence[NDArray[np.uint8]], k: int, scope: SearchScope, contents: Contents
    ) -> Found:
        """Returns the nearest chunks for each vector, including those under a replaced context.

        `contents` remembers them.
        """
        asked = await of_each(self._context, lambda context: self._nearest_under(context, vectors, k, scope))
        candidates = reduce(np.union1d, [answer.candidates for _, answer in asked])
        if not len(candidates) and scope.is_everything:
            await explain_emptiness(self._context, self._integration, scope.kb_id)
        remembered = self._decoys.remember(scope.kb_id, candidates)
        found: list[Nearest] = []
        for context, answer in asked:
            search = Search(scope.meta_filter, remembered, answer.readings)
            more = answer.nearest
            found = [union(one, other, k) for one, other in zip(found, more, strict=True)] if found else more
            for query, nearest in zip(vectors, answer.nearest, strict=True):
                contents.remember(scope.kb_id, search, context, query, nearest)
        return Found(found, len(candidates), asked[-1][1].plan)

    async def _nearest_under(
        self, context: ExecutionContext, vectors: Sequence[NDArray[np.uint8]], k: int, scope: SearchScope
    ) -> _Answer:
        if context is self._context.predecessor and self._stored_rows is not None:
            return await self._nearest_stored(context, self._stored_rows, vectors, k, scope)
        plan = None if self._blocks is None else await self._blocks.plan(len(vectors), scope)
        if self._blocks is not None and plan is not None and plan.way == "blocks":
            if (found := await self._blocks.nearest(vectors, k, scope)) is not None:
                nearest, readings = found
                candidates = reduce(np.union1d, [part.chunk_ids for part in readings.parts])
                return _Answer(nearest, candidates, plan, readings)
            plan = None
        with stage("encrypt"):
            queries = await asyncio.to_thread(context.homomorphic.encrypt_queries, vectors)
        with stage("search"):
            async with aclosing(self._answers(context, queries.sent, scope)) as blocks:
                nearest, candidates = await nearest_rows(blocks, queries, k)
        if self._blocks is not None:
            self._blocks.note_candidates(scope, len(candidates))
        return _Answer(nearest, candidates, plan)

    async def _nearest_stored(
        self,
        predecessor: ExecutionContext,
        rows: StoredRows,
        vectors: Sequence[NDArray[np.uint8]],
        k: int,
        scope: SearchScope,
    ) -> _Answer:
        """Does the same for chunks under the predecessor, under whose keys no query is encrypted."""
        asked = [predecessor.homomorphic.stored_rows_query()]
        with stage("search"):
            async with aclosing(self._answers(predecessor, asked, scope)) as blocks:
                found, candidates = await rows.nearest(blocks, scope.kb_id, vectors, k)
        if scope.is_everything:
            rows.keep_only(scope.kb_id, candidates.tolist())
        return _Answer(found, candidates)

    def _answers(
        self, context: ExecutionContext, queries: list[list[bytes]], scope: SearchScope
    ) -> AsyncGenerator[RowBlock, None]:
        return self._integration.stream_hamming_distances(
            scope.kb_id, context.id, queries, scope.hidden_filter(context), scope.id_range
        )
