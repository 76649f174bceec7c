"""Reads everything in a knowledge base to find chunks and blocks that cannot be used: damaged, changed, or foreign.

One such row makes every search over it fail, because a client that skips what it cannot read would tell the service
something about its key (docs/security.md). So bad chunks must be found, and replaced or deleted.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from xtrace_sdk.arguments import Positive, checked_call
from xtrace_sdk.errors import InvalidArgument
from xtrace_sdk.service.integration import XTraceIntegration
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.upkeep.bad_blocks import BadBlock, BlockProblem, CheckedBlocks, find_bad_blocks
from xtrace_sdk.x_vec.upkeep.bad_chunks import BadChunk, Problem, find_bad

__all__ = [
    "BATCH_SIZE",
    "BadBlock",
    "BadChunk",
    "BlockProblem",
    "CheckedBlocks",
    "Problem",
    "Verification",
    "delete_bad",
    "verify",
]

BATCH_SIZE = 500
"""The number of chunks in memory at once; twice as many while the next ones are being fetched."""


@dataclass(frozen=True, slots=True)
class Verification:
    """The number of chunks read, and the bad ones; and the same of blocks."""

    chunks: int
    """The number of chunks read; one that a rotation moved meanwhile may count twice."""
    bad: tuple[BadChunk, ...]
    """The bad chunks, by ascending id."""
    seconds: float
    unsteady: tuple[int, ...] = ()
    """The ids of chunks that were bad in the first pass but not in the second: they were replaced or deleted meanwhile,
    or the service answered with wrong data."""
    more: int = 0
    """The number of bad chunks beyond the first 100,000, which are listed."""
    blocks: CheckedBlocks = field(default_factory=CheckedBlocks)
    """What was found about the blocks of a scheme that has them."""


@checked_call
async def verify(
    context: ExecutionContext, integration: XTraceIntegration, kb_id: str, *, batch_size: Positive = BATCH_SIZE
) -> Verification:
    """Reads every chunk of a knowledge base under the context, and its predecessor if it has one; changes nothing.

    A chunk is good if its ciphertexts decrypt under both primes to a vector of the context's length with the noise of
    its nonce, its content is authentic under that nonce, and its private metadata, or the hashes of a record of a
    collection, are those of its content. What the service withholds, other metadata, and an older state are not
    noticed; compare `chunks` with how many you stored.

    Where any chunk is bad, all are read once more, and only what is bad both times is listed. So the service
    learns that everything was read, and whether any chunk was bad at all.

    Blocks are checked by one search with a random vector. A block is good if the context sealed it for this knowledge
    base, each of its chunks is stored and nowhere else, and the service computes their distances; where all its chunks
    are unchanged, it is also made again from them and compared. This takes some microseconds and 0.1 KB of memory for
    each chunk. Replace bad blocks with `seal_chunks(remake=)`.

    Raises `InvalidArgument`, also if nothing was ever stored there under the context, `BlockDamaged` if the service
    itself finds a block damaged, and what `XTraceIntegration` raises.
    """
    began = time.monotonic()
    if not {one.id for one in context.lineage} & set(await integration.get_ctx_for_kb(kb_id)):
        raise InvalidArgument("nothing was ever stored in this knowledge base under this context: is it the right one?")
    # In this order, a chunk that a rotation moves meanwhile is not missed.
    found = await find_bad(context.lineage, integration, kb_id, batch_size, "Verifying")
    blocks = await find_bad_blocks(context, integration, kb_id)
    return Verification(found.chunks, found.bad, time.monotonic() - began, found.unsteady, found.more, blocks)


@checked_call
async def delete_bad(integration: XTraceIntegration, kb_id: str, bad: Iterable[BadChunk]) -> list[int]:
    """Deletes bad chunks and returns their ids; those that were written since they were read are left alone.

    This cannot be undone, and it cannot be told whether the service damaged them on their way here: have the
    texts elsewhere. The service learns which of the chunks that it gave were bad. Give the whole list at once, after
    someone has looked at it. Raises what `XTraceIntegration` raises; the key needs permission to delete.
    """
    read = {chunk.chunk_id: chunk.updated_at for chunk in bad}
    stored = await integration.get_chunk_by_id(sorted(read), kb_id, projection=["updated_at"])
    same = [chunk["chunk_id"] for chunk in stored if chunk["updated_at"] == read[chunk["chunk_id"]]]
    await integration.delete_chunks(same, kb_id)
    return same
