"""Finds blocks that do not answer for the chunks that they were made from (docs/schemes.md, "Blocks").

One search by blocks with a random vector shows where the service has each chunk, and what it computes; all records show
what it should compute. The requests are the same whatever is found, so they tell the service nothing about a block.
"""

import asyncio
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from xtrace_core.block_frames import BlockAnswer, BlockValues, FetchedBlock
from xtrace_core.wire import BlockPlan
from xtrace_sdk.errors import AnswerTooLarge, InvalidAnswer, KnowledgeBaseNotFound, NotFound
from xtrace_sdk.limits import MAX_LISTED_CHUNKS
from xtrace_sdk.progress import Advance, progress_bar
from xtrace_sdk.service.integration import XTraceIntegration
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.schemes.blocks import BlockAnswer as ReadableAnswer
from xtrace_sdk.x_vec.schemes.blocks import BlockQueries, BlockScheme
from xtrace_sdk.x_vec.schemes.interface import Bits
from xtrace_sdk.x_vec.stored.blocks import KnownBlock, known_block, readable
from xtrace_sdk.x_vec.stored.rows import StoredRows, read_rows

ATTEMPTS: Final = 5
"""How often the blocks are read if the knowledge base is written to meanwhile."""


class BlockProblem(StrEnum):
    """The kind of problem of a block."""

    PARTS = "parts"
    """Its header or hints are not those that this context sealed for this knowledge base, or it has fewer chunks than
    vectors: searches by it fail."""
    CHUNKS = "chunks"
    """A slot is in use whose chunk is not stored under the context, or is also elsewhere: searches fail, or miss what
    changed since."""
    VECTORS = "vectors"
    """It was not made from the vectors of its chunks in this order: chunks are found in place of others."""
    VALUES = "values"
    """The service does not compute the distances of its chunks: its body is another, or is damaged."""


@dataclass(frozen=True, slots=True)
class BadBlock:
    """A block that searches cannot use."""

    block_id: int
    problems: tuple[BlockProblem, ...]


@dataclass(frozen=True, slots=True)
class CheckedBlocks:
    """What was found about the blocks of a knowledge base."""

    blocks: int = 0
    """The number of blocks that were checked."""
    recomputed: int = 0
    """How many of them were made again from their chunks, and compared: those whose chunks are all unchanged."""
    bad: tuple[BadBlock, ...] = ()
    """The bad blocks, by ascending id."""
    missing: tuple[int, ...] = ()
    """The ids of stored chunks that searches by blocks leave out, ascending; 100,000 at most."""
    unchecked: str = ""
    """Why blocks could not be checked; empty if they were."""


async def find_bad_blocks(context: ExecutionContext, integration: XTraceIntegration, kb_id: str) -> CheckedBlocks:
    """Checks the blocks of a knowledge base under the context; there are none under a scheme without them.

    Raises what `XTraceIntegration` raises.
    """
    scheme = context.homomorphic.blocks
    if scheme is None:
        return CheckedBlocks()
    for _ in range(ATTEMPTS):
        try:
            shown = await _Shown.by_service(context, scheme, integration, kb_id)
        except KnowledgeBaseNotFound:
            raise
        except NotFound:  # the context is not stored yet, or no longer; or the service does not support blocks
            return CheckedBlocks()
        except AnswerTooLarge:
            return CheckedBlocks(unchecked="the answer about blocks is larger than this client accepts")
        if shown is None:
            return CheckedBlocks()
        if shown.is_of_one_moment:
            with progress_bar("Checking blocks", len(shown.answer.blocks)) as advance:
                return await asyncio.to_thread(_Check(context, scheme, kb_id, shown).run, advance)
    return CheckedBlocks(
        unchecked=f"the knowledge base was changed each of the {ATTEMPTS} times that its blocks were read"
    )


@dataclass(frozen=True, slots=True)
class _Shown:
    """What the service shows of the blocks of a context."""

    vector: Bits
    """The vector of the search."""
    queries: BlockQueries
    answer: BlockAnswer
    fetched: dict[int, FetchedBlock]
    rows: StoredRows
    """The records of all chunks."""
    is_of_one_moment: bool
    """Whether the service says that nothing was written meanwhile."""

    @classmethod
    async def by_service(
        cls, context: ExecutionContext, scheme: BlockScheme, integration: XTraceIntegration, kb_id: str
    ) -> "_Shown | None":
        """Asks the service; returns None without blocks."""
        before = await integration.plan_blocks(kb_id, context.id)
        if not before.blocks:
            return None
        vector = _random_vector(context.embed_len())
        asked: list[BlockQueries] = []

        def encrypt() -> list[bytes]:
            asked.append(scheme.queries(vector))
            return asked[-1].sent

        search = await integration.search_blocks(kb_id, context.id, encrypt, scheme.sizes.slabs)
        ids = [one.block_id for one in search.answer.blocks]
        fetched = await integration.get_blocks(kb_id, context.id, ids, scheme.sizes.hints)
        rows = await read_rows(context, integration, kb_id)
        after = await integration.plan_blocks(kb_id, context.id)
        return cls(
            vector,
            asked[-1],
            search.answer,
            {one.block_id: one for one in fetched},
            rows,
            _revisions(before, after) == {search.answer.revision},
        )


class _Check:
    """Compares what the service shows with what its records say."""

    def __init__(self, context: ExecutionContext, scheme: BlockScheme, kb_id: str, shown: _Shown) -> None:
        self._context = context
        self._scheme = scheme
        self._kb_id = kb_id
        self._shown = shown
        self._recomputed = 0
        self._placed = _Places(shown)

    def run(self, advance: Advance) -> CheckedBlocks:
        """Returns the result; takes some microseconds for each chunk."""
        shown = self._shown
        known = {one.block_id: self._known(one) for one in shown.answer.blocks}
        answers = {block_id: found[1] for block_id, found in known.items() if found is not None}
        distances = dict(zip(answers, shown.queries.read_each([*answers.values()]), strict=True))
        bad = []
        for one in shown.answer.blocks:
            if problems := tuple(self._problems(one, known[one.block_id], distances.get(one.block_id))):
                bad.append(BadBlock(one.block_id, problems))
            advance(1)
        missing = self._placed.missing()[:MAX_LISTED_CHUNKS]
        return CheckedBlocks(len(shown.answer.blocks), self._recomputed, tuple(bad), tuple(missing.tolist()))

    def _known(self, values: BlockValues) -> tuple[KnownBlock, ReadableAnswer] | None:
        """Returns a block and its values; None if its parts are not authentic, or do not fit the values."""
        fetched = self._shown.fetched.get(values.block_id)
        try:
            known = None if fetched is None else known_block(self._scheme, self._kb_id, fetched)
            return None if known is None else (known, readable(values, known))
        except InvalidAnswer:
            return None

    def _problems(
        self,
        values: BlockValues,
        known: tuple[KnownBlock, ReadableAnswer] | None,
        distances: NDArray[np.uint16] | None,
    ) -> Iterator[BlockProblem]:
        if known is None:
            yield BlockProblem.PARTS
            return
        positions = self._placed.of(values.block_id)
        if positions is None:
            yield BlockProblem.CHUNKS
            return
        bits, valid = self._shown.rows.at(positions).opened(self._context)
        right = (bits != self._shown.vector).sum(axis=1)
        # Records that are not authentic are problems of their chunks.
        if distances is None or not np.array_equal(distances[0][valid], right[valid]):
            yield BlockProblem.VALUES
        if len(positions) == known[0].block.count and valid.all():
            self._recomputed += 1
            if not self._scheme.matches(known[0].block, bits):
                yield BlockProblem.VECTORS


class _Places:
    """Where the service has each chunk."""

    def __init__(self, shown: _Shown) -> None:
        self._stored = shown.rows.chunk_ids
        self._in_blocks = {one.block_id: _ids(one, shown.fetched.get(one.block_id)) for one in shown.answer.blocks}
        unsealed = [rows.chunk_ids for rows in shown.answer.records]
        self._ids, self._counts = np.unique(np.concatenate([*self._in_blocks.values(), *unsealed]), return_counts=True)

    def of(self, block_id: int) -> NDArray[np.intp] | None:
        """Returns the positions of a block's chunks among the records; None unless each is there, and nowhere else."""
        ids = self._in_blocks[block_id]
        if not np.isin(ids, self._stored).all() or (self._counts[np.searchsorted(self._ids, ids)] > 1).any():
            return None
        return np.searchsorted(self._stored, ids)

    def missing(self) -> NDArray[np.int64]:
        """Returns the chunks that are nowhere."""
        return np.setdiff1d(self._stored, self._ids)


def _ids(values: BlockValues, fetched: FetchedBlock | None) -> NDArray[np.int64]:
    """Returns the chunks of the slots that were answered; none if there are fewer."""
    if fetched is None or int(values.slots[-1]) >= len(fetched.chunk_ids):
        return np.empty(0, np.int64)
    return fetched.chunk_ids[values.slots]


def _revisions(*plans: BlockPlan) -> set[int]:
    return {plan.revision for plan in plans}


def _random_vector(length: int) -> Bits:
    drawn = np.frombuffer(secrets.token_bytes(-(-length // 8)), np.uint8)
    return np.unpackbits(drawn, count=length)[None]
