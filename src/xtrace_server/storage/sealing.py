"""Stores blocks and removes them: an index over chunks, which change in nothing else.

Each is one transaction on the locked knowledge base.
"""

import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import exists, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from xtrace_core.block_frames import bitmap_of, packed_ids, slots_of, unpacked_ids
from xtrace_core.wire import MAX_BLOCK_ID
from xtrace_server.errors import BlockOutdated
from xtrace_server.storage import usage
from xtrace_server.storage.contexts import Binding
from xtrace_server.storage.database import now
from xtrace_server.storage.deletions import NOT_DELETED
from xtrace_server.storage.dialects import statements
from xtrace_server.storage.knowledge_bases import KnowledgeBase, raise_revision
from xtrace_server.storage.schema import block, block_body, chunk, chunk_pk
from xtrace_server.storage.slots import UNSEALED, bury
from xtrace_server.storage.steps import steps

_b = block.c
_c = chunk.c

_ROW_BYTES: Final = 256
"""The approximate bytes of a block's row beside its parts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockWrite:
    """A checked block, with the ascending ids and the nonces of the chunks that it was made from."""

    chunk_ids: Sequence[int]
    nonces: Sequence[bytes]
    replaces: Collection[int]
    """The blocks that it replaces."""
    header: bytes
    hints: bytes
    body: bytes
    sha256: bytes
    """Of the body."""

    @property
    def stored_bytes(self) -> int:
        """The bytes that usage counts for it."""
        return block_bytes(self.header, self.hints, self.body)


def block_bytes(header: bytes, hints: bytes, body: bytes) -> int:
    """Returns the bytes that usage counts for a block with these parts."""
    return _ROW_BYTES + len(header) + len(hints) + len(body)


@dataclass(frozen=True, slots=True)
class Sealed:
    """A stored block, and the number of its live slots."""

    block_pk: int
    live_count: int


async def seal(connection: AsyncConnection, kb: KnowledgeBase, binding: Binding, write: BlockWrite) -> Sealed:
    """Stores a block of the binding, or returns the one that has the same body.

    Raises `BlockOutdated` and `QuotaExceeded`.
    """
    known = await _find(connection, binding, write.sha256)
    if known is not None:
        return known
    await _check_present(connection, binding, write.replaces)
    slots = await _takeable(connection, kb, binding, write)
    if 4 * len(slots) < 3 * len(write.chunk_ids):
        raise BlockOutdated.of_slots(len(slots), len(write.chunk_ids))
    await usage.add(connection, kb.organisation_id, stored_bytes=write.stored_bytes)
    block_pk = await _new_pk(connection)
    await _unseal(connection, kb, write.replaces)
    await bury(connection, kb, write.replaces)
    await _store(connection, binding, block_pk, write, slots)
    places = [(block_pk, slot, chunk_pk(kb.pk, write.chunk_ids[slot])) for slot in slots]
    await statements(connection).update_rows(connection, chunk, ("block_pk", "slot"), places)
    await raise_revision(connection, kb)
    return Sealed(block_pk, len(slots))


async def unseal(connection: AsyncConnection, kb: KnowledgeBase, binding: Binding, block_pks: Collection[int]) -> int:
    """Removes blocks of the binding, ignoring unknown ones; returns the number of chunks that were in them."""
    found = await _present(connection, binding, block_pks)
    if not found:
        return 0
    unsealed = await _unseal(connection, kb, found)
    await bury(connection, kb, found)
    await raise_revision(connection, kb)
    return unsealed


async def _find(connection: AsyncConnection, binding: Binding, sha256: bytes) -> Sealed | None:
    same = (_b.binding_pk == binding.pk, _b.sha256 == sha256, _b.live_count > 0)
    row = (await connection.execute(select(_b.pk, _b.live_count).where(*same))).first()
    return None if row is None else Sealed(*row)


async def _present(connection: AsyncConnection, binding: Binding, block_pks: Collection[int]) -> list[int]:
    query = select(_b.pk).where(_b.pk.in_(block_pks), _b.binding_pk == binding.pk, _b.live_count > 0)
    return list((await connection.execute(query)).scalars()) if block_pks else []


async def _check_present(connection: AsyncConnection, binding: Binding, block_pks: Collection[int]) -> None:
    missing = set(block_pks) - set(await _present(connection, binding, block_pks))
    if missing:
        raise BlockOutdated.of_replaced(min(missing))


async def _takeable(connection: AsyncConnection, kb: KnowledgeBase, binding: Binding, write: BlockWrite) -> list[int]:
    """Returns the slots whose chunks are as they were, and in no block that stays."""
    pks = [chunk_pk(kb.pk, chunk_id) for chunk_id in write.chunk_ids]
    free: dict[int, bytes | None] = {}
    for step in steps(pks):
        query = select(_c.pk, _c.nonce).where(_c.pk.in_(step), _c.binding_pk == binding.pk, NOT_DELETED)
        found = await connection.execute(query.where(or_(_c.block_pk.is_(None), _c.block_pk.in_(write.replaces))))
        free |= {row.pk: row.nonce for row in found}
    return [slot for slot, pk in enumerate(pks) if free.get(pk) == write.nonces[slot]]


async def _store(
    connection: AsyncConnection, binding: Binding, block_pk: int, write: BlockWrite, live: Sequence[int]
) -> None:
    count = len(write.chunk_ids)
    values = {
        "pk": block_pk,
        "binding_pk": binding.pk,
        "sha256": write.sha256,
        "count": count,
        "live_count": len(live),
        "live": bitmap_of(live),
        "dead_since": now() if len(live) < count else None,
        "stored_bytes": write.stored_bytes,
        "header": write.header,
        "ids": packed_ids(write.chunk_ids),
        "hints": write.hints,
    }
    await connection.execute(insert(block).values(values))
    await connection.execute(insert(block_body).values(pk=block_pk, body=write.body))


async def _unseal(connection: AsyncConnection, kb: KnowledgeBase, block_pks: Collection[int]) -> int:
    """Makes the chunks of blocks unsealed, and returns their number."""
    pks: list[int] = []
    for ids, live in await connection.execute(select(_b.ids, _b.live).where(_b.pk.in_(block_pks))):
        chunk_ids = unpacked_ids(ids).tolist()
        pks += [chunk_pk(kb.pk, chunk_ids[slot]) for slot in slots_of(live)]
    for step in steps(pks):
        await connection.execute(update(chunk).where(_c.pk.in_(step)).values(UNSEALED))
    return len(pks)


async def _new_pk(connection: AsyncConnection) -> int:
    """Returns a number that no block has. A random one never comes back, even after a restore: clients know blocks by
    it."""
    while True:
        pk = 1 + secrets.randbelow(MAX_BLOCK_ID)
        if not (await connection.execute(select(exists().where(_b.pk == pk)))).scalar():
            return pk
