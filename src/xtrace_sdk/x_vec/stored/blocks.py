"""Blocks as a client knows them: authenticated, with the chunk of each slot, and the values that a service answered."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xtrace_core.block_frames import BlockValues, FetchedBlock, Slots
from xtrace_sdk.errors import InvalidAnswer
from xtrace_sdk.x_vec.schemes.blocks import BlockAnswer, BlockScheme, CheckedBlock


@dataclass(frozen=True, slots=True)
class KnownBlock:
    """An authenticated block, and the chunk of each of its slots, which only the service vouches for."""

    block: CheckedBlock
    chunk_ids: NDArray[np.int64]

    def chunks_of(self, slots: Slots) -> NDArray[np.int64]:
        """Returns the chunks in these slots, which the block has."""
        return self.chunk_ids if len(slots) == len(self.chunk_ids) else self.chunk_ids[slots]


def known_block(scheme: BlockScheme, kb_id: str, fetched: FetchedBlock) -> KnownBlock:
    """Checks a fetched block.

    Raises `InvalidAnswer` for a block that this context did not seal for this knowledge base, or with a number of
    chunks other than that of its vectors.
    """
    block = scheme.checked(fetched.header, fetched.hints, kb_id)
    if len(fetched.chunk_ids) != block.count:
        raise InvalidAnswer(f"the server returned {len(fetched.chunk_ids)} chunks for a block of {block.count} vectors")
    return KnownBlock(block, fetched.chunk_ids)


def readable(values: BlockValues, known: KnownBlock) -> BlockAnswer:
    """Returns what the service answered for a block. Raises `InvalidAnswer` for slots that the block does not have."""
    answer = BlockAnswer(known.block, values.slots, values.values)
    answer.check_slots()
    return answer
