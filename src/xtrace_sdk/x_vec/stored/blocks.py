"""Blocks as a client knows them: authenticated, with the chunk of each slot, and the values that a service answered."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xtrace_core.block_frames import BlockValues, FetchedBlock
from xtrace_core.lattice.layout import unpack_values
from xtrace_sdk.errors import InvalidAnswer
from xtrace_sdk.x_vec.schemes.blocks import BlockAnswer, BlockScheme, CheckedBlock


@dataclass(frozen=True, slots=True)
class KnownBlock:
    """An authenticated block, and the chunk of each of its slots, which only the service vouches for."""

    block: CheckedBlock
    chunk_ids: NDArray[np.int64]


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
    """Returns what the service answered for a block, unpacked. Raises `InvalidAnswer` for other slots than it has."""
    count = len(values.slots)
    if count and int(values.slots[-1]) >= known.block.count:
        raise InvalidAnswer(f"the server answered for slots that a block of {known.block.count} vectors does not have")
    try:
        unpacked = [[unpack_values(part, count) for part in query] for query in values.packed]
    except ValueError as error:
        raise InvalidAnswer(f"the server's answer cannot be read: {error}; search again") from None
    return BlockAnswer(known.block, values.slots, np.array(unpacked, dtype=np.uint16))
