"""Seals stored chunks into blocks, so that searches of many chunks take a hundredth of the bytes (docs/schemes.md).

A block is an index made from chunks: chunks stay as they are, and a block can be dropped at any time. Blocks are made
at the end of a load and by `xtrace kb seal`, by nothing else. Each sealer begins at a random chunk, so that two of them
rarely make blocks of the same ones; if they do, the service stores one.
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Collection, Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
from msgspec import UnsetType

from xtrace_core import wire
from xtrace_sdk.arguments import Count, Positive, checked_call
from xtrace_sdk.errors import BlockOutdated, InvalidAnswer, InvalidArgument, InvalidRows
from xtrace_sdk.progress import Advance, progress_bar
from xtrace_sdk.service.integration import XTraceIntegration
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.schemes.blocks import BlockScheme, SealedBlock
from xtrace_sdk.x_vec.stored.rows import StoredRows, read_rows

__all__ = ["ERASE_AFTER_DAYS", "FIRST_ROWS", "SealSummary", "seal_chunks"]

FIRST_ROWS: Final = 24_576
"""The chunks at which the first blocks are made: with fewer, searches by records take fewer bytes."""
ERASE_AFTER_DAYS: Final = 30
"""How long the ciphertext of a deleted or replaced vector may stay inside a block."""
_ROWS_AT_ONCE: Final = 1 << 18
"""The chunks whose records are in memory together."""


@dataclass(frozen=True, slots=True)
class SealSummary:
    """What was sealed."""

    blocks: int = 0
    """The number of new blocks."""
    sealed: int = 0
    """The number of chunks in them."""
    removed: int = 0
    """The number of removed blocks: mostly dead, with vectors deleted too long ago, or to be made again."""
    left: int = 0
    """The number of chunks in no block."""


@checked_call
async def seal_chunks(
    context: ExecutionContext,
    integration: XTraceIntegration,
    kb_id: str,
    *,
    first_rows: Positive = FIRST_ROWS,
    erase_after_days: Count = ERASE_AFTER_DAYS,
    remake: Collection[int] = (),
) -> SealSummary:
    """Seals the chunks of a knowledge base that are in no block, 1,024 in each block, and replaces outdated blocks.

    Args:
        context: a context of a scheme with blocks (`lattice`).
        integration: the connection; the key needs permission to write.
        kb_id: the knowledge base.
        first_rows: the number of chunks at which the first blocks are made.
        erase_after_days: a block with a vector that was deleted or replaced this many days ago is replaced.
        remake: the ids of other blocks to replace, for example damaged ones; unknown ids are ignored.

    Fewer than 1,024 chunks stay in no block, and so do those that others seal or change meanwhile. It is safe to
    interrupt or repeat this. Raises `InvalidRows`, which names chunks whose records are not authentic,
    `InvalidRequest` for a scheme without blocks, `NotFound` if the service does not support blocks, and what
    `XTraceIntegration` raises.
    """
    plan = await integration.plan_blocks(kb_id, context.id, listed=True)
    scheme = context.homomorphic.blocks
    if scheme is None:
        raise InvalidArgument("the context's scheme has no blocks: only chunks under the scheme lattice can be sealed")
    if isinstance(plan.listed, UnsetType):
        raise InvalidAnswer("the server did not list the blocks")
    erase_after = timedelta(days=erase_after_days)
    outdated = [one for one in plan.listed if one.id in remake or _is_outdated(one, erase_after)]
    unsealed = plan.unsealed
    if outdated:
        unsealed += await integration.unseal_blocks(kb_id, context.id, [one.id for one in outdated])
    least = scheme.max_rows if len(outdated) < len(plan.listed) else max(first_rows, scheme.max_rows)
    done = SealSummary(removed=len(outdated), left=unsealed)
    if unsealed < least:
        return done
    with progress_bar("Sealing", unsealed) as advance:
        return await _Sealer(context, scheme, integration, kb_id, advance).run(done)


def _is_outdated(block: wire.ListedBlock, erase_after: timedelta) -> bool:
    if 2 * block.live_count < block.count:
        return True
    if block.dead_since is None:
        return False
    try:
        since = datetime.fromisoformat(block.dead_since)
    except ValueError:
        raise InvalidAnswer("the server returned a block whose dead_since is not a time") from None
    passed = datetime.now(UTC) - (since if since.tzinfo is not None else since.replace(tzinfo=UTC))
    # The service's clock may be ahead, and with 0 days nothing may be left.
    return max(passed, timedelta(0)) >= erase_after


def _groups(rows: StoredRows, size: int) -> Iterator[StoredRows]:
    """Yields groups of this size from a random start, each by ascending id; the rest is left out."""
    count = len(rows)
    order = np.roll(np.arange(count), -secrets.randbelow(count)) if count else np.arange(0)
    for start in range(0, count - size + 1, size):
        yield rows.at(np.sort(order[start : start + size]))


class _Sealer:
    """Seals the chunks of one knowledge base."""

    def __init__(
        self,
        context: ExecutionContext,
        scheme: BlockScheme,
        integration: XTraceIntegration,
        kb_id: str,
        advance: Advance,
    ) -> None:
        self._context = context
        self._scheme = scheme
        self._integration = integration
        self._kb_id = kb_id
        self._advance = advance

    async def run(self, done: SealSummary) -> SealSummary:
        """Seals until fewer chunks are left than a block has, or others sealed or changed all that are left."""
        while True:
            rows = await read_rows(self._context, self._integration, self._kb_id, unsealed=True, at_least=_ROWS_AT_ONCE)
            blocks = sealed = 0
            async with aclosing(self._made(_groups(rows, self._scheme.max_rows))) as made:
                async for group, block in made:
                    if (live := await self._store(group, block)) is not None:
                        blocks, sealed = blocks + 1, sealed + live
                        self._advance(live)
            left = max(done.left - sealed, 0)
            done = replace(done, blocks=done.blocks + blocks, sealed=done.sealed + sealed, left=left)
            if not blocks or len(rows) < _ROWS_AT_ONCE:
                return done

    async def _made(self, groups: Iterator[StoredRows]) -> AsyncGenerator[tuple[StoredRows, SealedBlock], None]:
        """Yields the block of each group, and makes the next one meanwhile."""
        making: asyncio.Task[SealedBlock] | None = None
        group = next(groups, None)
        try:
            while group is not None:
                block = await (making or asyncio.to_thread(self._block_of, group))
                of_block, group = group, next(groups, None)
                making = None if group is None else asyncio.create_task(asyncio.to_thread(self._block_of, group))
                yield of_block, block
        finally:
            if making is not None:
                making.cancel()
                await asyncio.gather(making, return_exceptions=True)

    async def _store(self, rows: StoredRows, block: SealedBlock) -> int | None:
        """Stores a block, and returns how many of its chunks were taken; None if too many are sealed or changed."""
        nonces = [nonce or b"" for nonce in rows.nonces]
        ids = rows.chunk_ids.tolist()
        try:
            stored = await self._integration.seal_block(
                self._kb_id, self._context.id, ids, nonces, block.header, block.hints, block.body
            )
        except BlockOutdated:
            return None
        return stored.live

    def _block_of(self, rows: StoredRows) -> SealedBlock:
        bits, valid = rows.opened(self._context)
        if bad := np.flatnonzero(~valid).tolist():
            raise InvalidRows(bad, rows.chunk_ids[bad].tolist())
        return self._scheme.seal(bits, self._kb_id)
