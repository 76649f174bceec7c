"""Searches by blocks: the service computes the distances of chunks in blocks, the client those of all others.

An answer is read whole before anything depends on it, and every request has new queries, so that no query is ever
answered twice. An error of the answer is raised, never hidden by another attempt: it would tell the service something
about the query or the vectors (docs/security.md, "The scheme lattice").
"""

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from xtrace_core.block_frames import BlockAnswer
from xtrace_core.frames import RowBlock
from xtrace_core.secrecy import Secretive
from xtrace_core.wire import MAX_BLOCK_QUERIES
from xtrace_sdk.errors import (
    AnswerTooLarge,
    ContextNotFound,
    InvalidAnswer,
    InvalidRows,
    KnowledgeBaseNotFound,
    NotFound,
)
from xtrace_sdk.limits import MAX_NAMED_ROWS
from xtrace_sdk.service.integration import XTraceIntegration
from xtrace_sdk.stages import stage
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.retrievers.block_hints import BlockHints
from xtrace_sdk.x_vec.retrievers.planning import Counts, Planner, SearchPlan, Sizes
from xtrace_sdk.x_vec.retrievers.readings import Reading, Readings
from xtrace_sdk.x_vec.retrievers.scan import Nearest, nearest_among, nonces_of
from xtrace_sdk.x_vec.retrievers.scope import SearchScope
from xtrace_sdk.x_vec.schemes.blocks import BlockQueries, BlockScheme
from xtrace_sdk.x_vec.schemes.interface import Bits, HomomorphicClient
from xtrace_sdk.x_vec.stored.blocks import KnownBlock, readable

ATTEMPTS: Final = 5
"""How often a search is repeated because blocks in its answer were removed before their hints were fetched."""
_NO_IDS: Final = np.empty(0, np.int64)
_ROW_BYTES: Final = 9
"""A row of an answer, besides its record and nonce."""


class BlockSearching(Secretive):
    """The searches of one context of a scheme with blocks."""

    def __init__(self, context: ExecutionContext, scheme: BlockScheme, integration: XTraceIntegration) -> None:
        self._context = context
        self._scheme = scheme
        self._integration = integration
        self._hints = BlockHints(integration, context.id, scheme)
        sizes = scheme.sizes
        self._planner = Planner(
            Sizes(scheme.record_bytes + _ROW_BYTES, sizes.query, sizes.slabs, sizes.header + sizes.hints)
        )
        self._is_possible = True
        """Whether the service supports blocks, and its answers fit into the client's memory."""

    async def plan(self, queries: int, scope: SearchScope) -> SearchPlan | None:
        """Returns how to search; None if there is only one way. Raises `ContextNotFound`."""
        if not self._is_possible:
            return None
        key, cached = self._key(scope), self._hints.count(scope.kb_id)
        if (remembered := self._planner.remembered(key, queries, cached)) is not None:
            return remembered
        with stage("plan"):
            try:
                plan = await self._integration.plan_blocks(
                    scope.kb_id, self._context.id, scope.hidden_filter(self._context), scope.id_range
                )
            except (ContextNotFound, KnowledgeBaseNotFound):
                raise
            except NotFound:  # a service without this call
                self._is_possible = False
                return None
        counts = Counts(plan.candidates, plan.unsealed, plan.blocks)
        self._planner.note(key, counts)
        return self._planner.plan(counts, queries, cached)

    def note_candidates(self, scope: SearchScope, candidates: int) -> None:
        """Remembers how many candidates a search by records found."""
        self._planner.note_candidates(self._key(scope), candidates)

    async def nearest(
        self, vectors: Sequence[Bits], k: int, scope: SearchScope
    ) -> tuple[list[Nearest], Readings] | None:
        """Returns the `k` nearest chunks for each vector by distances that records must confirm, and all distances.

        None if the answer is larger than the client accepts at once: records can be read piece by piece. Raises
        `InvalidAnswer` for an answer that an honest service does not give, and `InvalidRows`, which names bad
        records of chunks in no block.
        """
        found: list[Nearest] = []
        readings: list[Reading] = []
        for start in range(0, len(vectors), MAX_BLOCK_QUERIES):
            try:
                reading = await self._reading(vectors[start : start + MAX_BLOCK_QUERIES], scope)
            except AnswerTooLarge:  # before anything of it was read
                self._is_possible = False
                return None
            found += [nearest_among(reading.chunk_ids, one, k) for one in reading.distances]
            readings.append(reading)
        return found, Readings.of(readings)

    async def _reading(self, vectors: Sequence[Bits], scope: SearchScope) -> Reading:
        for _ in range(ATTEMPTS):
            attempt = _Attempt(self._context.homomorphic, self._scheme, vectors)
            with stage("search"):
                search = await self._integration.search_blocks(
                    scope.kb_id,
                    self._context.id,
                    attempt.encrypt,
                    self._scheme.sizes.slabs,
                    scope.hidden_filter(self._context),
                    scope.id_range,
                )
            answer = search.answer
            with stage("hints"):
                known = await self._hints.of(scope.kb_id, [one.block_id for one in answer.blocks])
            unsealed = sum(map(len, answer.records))
            self._planner.note(self._key(scope), Counts(answer.candidates, unsealed, len(answer.blocks)))
            if known is None:  # nothing of this answer was read, so the service learns nothing from the next request
                continue
            with stage("compare"):
                chunk_ids, distances = await asyncio.to_thread(attempt.distances, answer, known, scope)
            return Reading(chunk_ids, np.array(vectors, dtype=np.uint8), distances, search.before)
        raise InvalidAnswer(
            f"{ATTEMPTS} times in a row, the server answered with blocks that it does not have: search again"
        )

    def _key(self, scope: SearchScope) -> str:
        told = (scope.kb_id, scope.hidden_filter(self._context), scope.id_range)
        return msgspec.json.encode(told, order="deterministic").decode()


class _Attempt(Secretive):
    """The queries of one search, and reading its answer."""

    __slots__ = ("_client", "_queries", "_scheme", "_vectors")

    def __init__(self, client: HomomorphicClient, scheme: BlockScheme, vectors: Sequence[Bits]) -> None:
        self._client = client
        self._scheme = scheme
        self._vectors = vectors
        self._queries: BlockQueries | None = None

    def encrypt(self) -> list[bytes]:
        """Returns new encrypted queries; those before can no longer be answered."""
        with stage("encrypt"):
            self._queries = self._scheme.queries(np.array(self._vectors, dtype=np.uint8))
        return self._queries.sent

    def distances(
        self, answer: BlockAnswer, known: Sequence[KnownBlock], scope: SearchScope
    ) -> tuple[NDArray[np.int64], NDArray[np.uint16]]:
        """Returns the ids of all candidates, ascending, and their distances `(queries, n)`.

        Raises `InvalidAnswer` and `InvalidRows`.
        """
        if self._queries is None:
            raise AssertionError("an answer needs queries")
        pairs = list(zip(answer.blocks, known, strict=True))
        distances = self._queries.read([readable(one, block) for one, block in pairs])
        ids = [block.chunks_of(one.slots) for one, block in pairs] + [rows.chunk_ids for rows in answer.records]
        chunk_ids = np.concatenate([_NO_IDS, *ids])
        if answer.records:
            distances = np.concatenate([distances, *self._of_records(answer.records)], axis=1)
        if not (chunk_ids[1:] > chunk_ids[:-1]).all():
            order = np.argsort(chunk_ids, kind="stable")
            chunk_ids, distances = chunk_ids[order], distances[:, order]
        _check_ids(chunk_ids, scope)
        return chunk_ids, distances

    def _of_records(self, records: Sequence[RowBlock]) -> list[NDArray[np.uint16]]:
        """Raises `InvalidRows`, which names the first bad records."""
        queries = self._client.encrypt_queries(self._vectors)
        found: list[NDArray[np.uint16]] = []
        invalid: list[int] = []
        for rows in records:
            distances, valid = queries.read(rows.ciphertexts, nonces_of(rows))
            found.append(distances.astype(np.uint16))
            invalid += rows.chunk_ids[~valid].tolist()
        if invalid:
            named = invalid[:MAX_NAMED_ROWS]
            raise InvalidRows(range(len(named)), named, len(invalid))
        return found


def _check_ids(ascending: NDArray[np.int64], scope: SearchScope) -> None:
    if (ascending[1:] == ascending[:-1]).any():
        raise InvalidAnswer("the server answered twice for one chunk, expected one answer for each")
    bounds = scope.id_range
    if bounds and len(ascending) and not bounds[0] <= ascending[0] <= ascending[-1] <= bounds[1]:
        raise InvalidAnswer("the server answered for chunks outside the requested range")
