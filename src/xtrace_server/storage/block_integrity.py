"""Checks the blocks in a database: each body against its hash, and each slot against the chunk that refers to it."""

import hashlib
from collections.abc import Iterator
from typing import Any, Final

import sqlalchemy as sa

from xtrace_core.block_frames import slots_of, unpacked_ids
from xtrace_core.frames import InvalidFrames
from xtrace_core.lattice.header import BlockHeader, InvalidHeader
from xtrace_core.lattice.parameters import BLOCK_ROWS, hint_bytes
from xtrace_server.storage.deletions import NOT_DELETED
from xtrace_server.storage.schema import binding, block, block_body, chunk, chunk_pk, knowledge_base
from xtrace_server.storage.sealing import block_bytes

_ROWS_AT_ONCE: Final = 32
"""The blocks in memory together, without their bodies."""

_b = block.c
_c = chunk.c
_LIVING: Final = (_b.live_count > 0, knowledge_base.c.deleted_at.is_(None))
_JOINED: Final = block.join(binding).join(knowledge_base)


def block_faults(connection: sa.Connection) -> Iterator[tuple[str, int, list[str]]]:
    """Yields each block's knowledge base and id, with a sentence for each thing that is wrong with it."""
    columns = (*block.c, knowledge_base.c.id.label("kb_id"), knowledge_base.c.pk.label("kb_pk"))
    last = 0
    while True:
        query = sa.select(*columns).select_from(_JOINED).where(*_LIVING, _b.pk > last).order_by(_b.pk)
        rows = connection.execute(query.limit(_ROWS_AT_ONCE)).all()
        for row in rows:
            yield row.kb_id, row.pk, list(_faults(connection, row))
        if len(rows) < _ROWS_AT_ONCE:
            return
        last = rows[-1].pk


def stray_faults(connection: sa.Connection) -> Iterator[tuple[str, str]]:
    """Yields knowledge bases with chunks that refer to no slot, each with a sentence.

    Where every live slot has its chunk, as `block_faults` checks, there are as many chunks in slots as live slots.
    """
    # The sums of `live_count` are per binding, as a block's chunks are of its binding.
    live = sa.select(_b.binding_pk, sa.func.sum(_b.live_count).label("live")).group_by(_b.binding_pk).subquery()
    referring = (
        sa.select(_c.binding_pk, sa.func.count().label("referring"))
        .where(_c.block_pk.is_not(None), NOT_DELETED)
        .group_by(_c.binding_pk)
        .subquery()
    )
    query = (
        sa.select(knowledge_base.c.id, referring.c.referring, sa.func.coalesce(live.c.live, 0))
        .select_from(
            referring.join(binding, binding.c.pk == referring.c.binding_pk)
            .join(knowledge_base)
            .outerjoin(live, live.c.binding_pk == referring.c.binding_pk)
        )
        .where(knowledge_base.c.deleted_at.is_(None))
    )
    for kb_id, count, slots in connection.execute(query):
        if count > slots:
            yield kb_id, f"{count} chunks refer to slots of blocks, expected {slots}, the live slots of its blocks"


def _faults(connection: sa.Connection, row: Any) -> Iterator[str]:
    body = connection.execute(sa.select(block_body.c.body).where(block_body.c.pk == row.pk)).scalar()
    if body is None:
        yield "its body is missing"
    elif hashlib.sha256(body).digest() != row.sha256:
        yield "its body is damaged: it does not have the SHA-256 that was stored"
    yield from _header_faults(row)
    if body is not None and row.stored_bytes != (size := block_bytes(row.header, row.hints, body)):
        yield f"it counts as {row.stored_bytes} bytes, expected {size}"
    if len(row.live) != BLOCK_ROWS // 8:
        yield f"the bitmap of its live slots has {len(row.live)} bytes, expected {BLOCK_ROWS // 8}"
        return
    live = slots_of(bytes(row.live)).tolist()
    if len(live) != row.live_count:
        yield f"it counts {row.live_count} live slots, expected {len(live)}"
    if (row.dead_since is None) != (len(live) == row.count):
        yield f"{row.count - len(live)} of its slots are dead, but the time of the first is {row.dead_since}"
    try:
        chunk_ids = unpacked_ids(row.ids).tolist()
    except InvalidFrames:
        chunk_ids = []
    if len(chunk_ids) != row.count or live[-1:] >= [row.count]:
        yield f"its {row.count} slots have {len(chunk_ids)} chunk ids"
        return
    found = _referring(connection, row, [chunk_ids[slot] for slot in live])
    if wrong := sum(found.get(chunk_pk(row.kb_pk, chunk_ids[slot])) != slot for slot in live):
        yield f"{wrong} of its live slots have chunks that do not refer to them"


def _header_faults(row: Any) -> Iterator[str]:
    try:
        header = BlockHeader.parsed(row.header)
    except InvalidHeader:
        yield "its header is damaged"
        return
    if (header.sha256, header.count) != (row.sha256, row.count):
        yield "its header is damaged: it has another SHA-256 or count than the block"
    if len(row.hints) != hint_bytes(header.embed_len):
        yield f"its hints have {len(row.hints)} bytes, expected {hint_bytes(header.embed_len)}"


def _referring(connection: sa.Connection, row: Any, chunk_ids: list[int]) -> dict[int, int]:
    """Returns the slots of those of the chunks that refer to the block, by their keys."""
    pks = [chunk_pk(row.kb_pk, chunk_id) for chunk_id in chunk_ids]
    of_block = (_c.block_pk == row.pk, _c.binding_pk == row.binding_pk, NOT_DELETED)
    return {one.pk: one.slot for one in connection.execute(sa.select(_c.pk, _c.slot).where(_c.pk.in_(pks), *of_block))}
