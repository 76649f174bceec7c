"""The slots of blocks: each is live while its chunk is as it was when the block was made.

Whatever changes a chunk's vector, nonce or binding, or deletes it, frees its slot in the same transaction, on the
locked knowledge base. So a chunk is in exactly one place: in no block, or in one live slot.
"""

from collections.abc import Collection, Mapping
from typing import Any, Final

import numpy as np
from sqlalchemy import bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from xtrace_core.block_frames import bitmap_of, slots_of
from xtrace_server.storage import usage
from xtrace_server.storage.database import now
from xtrace_server.storage.knowledge_bases import KnowledgeBase
from xtrace_server.storage.schema import block, chunk
from xtrace_server.storage.steps import steps

UNSEALED: Final[Mapping[str, Any]] = {"block_pk": None, "slot": None}
"""The columns of a chunk that is in no block."""
NO_SLOTS: Final = bitmap_of([])
"""The bitmap of a block without live slots."""

_b = block.c
_c = chunk.c


async def free(connection: AsyncConnection, kb: KnowledgeBase, pks: Collection[int]) -> None:
    """Frees the slots of the chunks with these keys. The caller deletes the chunks, or makes them `UNSEALED`."""
    freed: dict[int, list[int]] = {}
    for step in steps(pks):
        query = select(_c.block_pk, _c.slot).where(_c.pk.in_(step), _c.block_pk.is_not(None))
        for block_pk, slot in await connection.execute(query):
            freed.setdefault(block_pk, []).append(slot)
    for some in steps(freed):
        await _free(connection, kb, {block_pk: freed[block_pk] for block_pk in some})


async def bury(connection: AsyncConnection, kb: KnowledgeBase, block_pks: Collection[int]) -> None:
    """Removes blocks of the knowledge base for everyone; `deletions.carry_out` deletes their rows.

    The caller unseals the chunks of their live slots.
    """
    freed_bytes = 0
    for step in steps(block_pks):
        sizes = await connection.execute(select(_b.stored_bytes).where(_b.pk.in_(step), _b.live_count > 0))
        freed_bytes += sum(sizes.scalars())
        gone = {"live": NO_SLOTS, "live_count": 0}
        await connection.execute(update(block).where(_b.pk.in_(step)).values(gone))
    await usage.add(connection, kb.organisation_id, stored_bytes=-freed_bytes)


async def _free(connection: AsyncConnection, kb: KnowledgeBase, freed: Mapping[int, list[int]]) -> None:
    moment, changed, empty = now(), [], []
    query = select(_b.pk, _b.live, _b.dead_since).where(_b.pk.in_(freed), _b.live_count > 0)
    for block_pk, live, dead_since in await connection.execute(query):
        left = np.setdiff1d(slots_of(live), freed[block_pk], assume_unique=True)
        if not len(left):
            empty.append(block_pk)
            continue
        values = {"live": bitmap_of(left), "live_count": len(left), "dead_since": dead_since or moment}
        changed.append({"this_pk": block_pk, **values})
    if changed:
        await connection.execute(update(block).where(_b.pk == bindparam("this_pk")), changed)
    if empty:
        await bury(connection, kb, empty)
