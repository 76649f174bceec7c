"""The hints of blocks, each fetched once: what reading the service's values needs, and which chunk is in which slot."""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from xtrace_core.block_frames import FetchedBlock
from xtrace_sdk.service.integration import XTraceIntegration
from xtrace_sdk.x_vec.schemes.blocks import BlockScheme
from xtrace_sdk.x_vec.stored.blocks import KnownBlock, known_block

MAX_BYTES: Final = 64 << 20
"""The memory for hints; those of the blocks that were searched least recently are dropped first."""
_OVERHEAD: Final = 500


class BlockHints:
    """The blocks of one context that searches have met. A block never changes, and its id is never used again."""

    def __init__(self, integration: XTraceIntegration, context_id: str, scheme: BlockScheme) -> None:
        self._integration = integration
        self._context_id = context_id
        self._scheme = scheme
        self._known: OrderedDict[tuple[str, int], KnownBlock] = OrderedDict()
        self._size = 0

    def count(self, kb_id: str) -> int:
        """Returns how many blocks of a knowledge base are at hand."""
        return sum(known_kb_id == kb_id for known_kb_id, _ in self._known)

    async def of(self, kb_id: str, block_ids: Sequence[int]) -> list[KnownBlock] | None:
        """Returns these blocks, fetching those that are not at hand; None if one of them was removed meanwhile.

        Raises `InvalidAnswer` for a block that this context did not seal for this knowledge base, or with a number of
        chunks other than that of its vectors.
        """
        found = {one: self._known[kb_id, one] for one in block_ids if (kb_id, one) in self._known}
        missing = [one for one in block_ids if one not in found]
        if missing:
            hint_bytes = self._scheme.sizes.hints
            fetched = await self._integration.get_blocks(kb_id, self._context_id, missing, hint_bytes)
            found |= await asyncio.to_thread(self._checked, kb_id, fetched)
        for block_id, known in found.items():
            self._keep((kb_id, block_id), known)
        return [found[one] for one in block_ids] if len(found) == len(block_ids) else None

    def _checked(self, kb_id: str, fetched: Sequence[FetchedBlock]) -> dict[int, KnownBlock]:
        return {one.block_id: known_block(self._scheme, kb_id, one) for one in fetched}

    def _keep(self, key: tuple[str, int], known: KnownBlock) -> None:
        before = self._known.pop(key, None)
        self._size += _size(known) - (0 if before is None else _size(before))
        self._known[key] = known
        while self._size > MAX_BYTES and len(self._known) > 1:
            _, dropped = self._known.popitem(last=False)
            self._size -= _size(dropped)


def _size(known: KnownBlock) -> int:
    """Returns the bytes that keeping a block takes."""
    return known.block.size + known.chunk_ids.nbytes + _OVERHEAD
