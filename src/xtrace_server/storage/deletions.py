"""Large deletions: they take effect at once, and are completed in steps.

A deleted knowledge base is no longer found, nor are chunks listed in `deleted_chunk`, blocks without live slots
(`slots`), removed parts of shared indexes (`shared_indexes`), or a deleted organisation (`organisation_deletion`).
Their rows are deleted in transactions of limited size, between which others write. If the server stops before the end,
its next start continues.
"""

from collections.abc import Collection, Sequence
from typing import Final

from sqlalchemy import ColumnElement, Table, delete, exists, func, literal_column, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from xtrace_server.storage import knowledge_bases, organisation_deletion, shared_indexes, usage
from xtrace_server.storage.database import now
from xtrace_server.storage.dialects import statements
from xtrace_server.storage.knowledge_bases import KnowledgeBase
from xtrace_server.storage.schema import (
    MAX_CHUNK_ID,
    binding,
    block,
    chunk,
    chunk_pk,
    deleted_chunk,
    facet,
    knowledge_base,
    unique_key,
)
from xtrace_server.storage.sizes import STEP_BYTES, bounded_steps
from xtrace_server.storage.steps import steps

STEP: Final = 500
"""The maximum number of chunks that one transaction deletes, with facets and contents: tens of milliseconds."""

_LARGE_ROWS: Final = 16
"""The maximum number of blocks, or parts of shared indexes, that one transaction deletes."""

_c = chunk.c

NOT_DELETED: Final[ColumnElement[bool]] = ~exists().where(deleted_chunk.c.pk == _c.pk).correlate(chunk)
"""The condition for chunks that are not deleted. The table is nearly always empty, and is looked up by key."""


async def delete_chunks(connection: AsyncConnection, pks: Sequence[int]) -> None:
    """Deletes existing chunks: at once if one step suffices; otherwise marks them for `carry_out`."""
    if len(pks) <= STEP and await _first_step(connection, pks) == list(pks):
        await delete_rows(connection, pks)
        return
    for step in steps(pks):
        await statements(connection).insert_rows(connection, deleted_chunk, ("pk",), [(pk,) for pk in step])
    await statements(connection).has_grown(connection, deleted_chunk)


async def delete_rows(connection: AsyncConnection, pks: Sequence[int]) -> None:
    """Deletes the rows of chunks, for at most `STEP` of them, in every table."""
    await connection.execute(delete(facet).where(facet.c.chunk_pk.in_(pks)))
    await connection.execute(delete(chunk).where(_c.pk.in_(pks)))


async def delete_knowledge_base(connection: AsyncConnection, kb: KnowledgeBase) -> list[int]:
    """Deletes the knowledge base as of the end of the transaction; returns the keys of its former bindings.

    It must be locked. No context is bound to it any longer, and its chunks no longer count as stored.
    """
    in_blocks = select(func.coalesce(func.sum(block.c.stored_bytes), 0)).where(
        _bound_in(block, kb.pk), block.c.live_count > 0
    )
    freed = kb.stored_bytes + int((await connection.execute(in_blocks)).scalar_one())
    for table in shared_indexes.PARTS:
        in_parts = select(func.coalesce(func.sum(table.c.stored_bytes), 0)).where(_bound_in(table, kb.pk))
        freed += int((await connection.execute(in_parts)).scalar_one())
    await usage.add(connection, kb.organisation_id, chunks=-kb.number_of_vectors, stored_bytes=-freed)
    statement = update(knowledge_base).where(knowledge_base.c.pk == kb.pk)
    await connection.execute(statement.values(deleted_at=now()))
    await connection.execute(update(binding).where(binding.c.kb_pk == kb.pk).values(context_pk=None))
    return list((await connection.execute(select(binding.c.pk).where(binding.c.kb_pk == kb.pk))).scalars())


async def is_left(connection: AsyncConnection) -> bool:
    """Whether a deletion is incomplete."""
    left = (
        exists().select_from(deleted_chunk),
        exists().where(~knowledge_bases.NOT_DELETED),
        exists().where(binding.c.context_pk.is_(None)),
        exists().where(block.c.live_count == literal_column("0")),
        *shared_indexes.is_left(),
        organisation_deletion.IS_LEFT,
    )
    return bool((await connection.execute(select(or_(*left)))).scalar())


async def carry_out(connection: AsyncConnection) -> list[int] | None:
    """Does one step of the pending deletions; returns the keys of the bindings that it deleted.

    None if there was nothing to do; skips what another server is deleting.
    """
    marked = select(deleted_chunk.c.pk).order_by(deleted_chunk.c.pk).limit(STEP).with_for_update(skip_locked=True)
    if pks := (await connection.execute(marked)).scalars().all():
        await delete_rows(connection, await _first_step(connection, pks))
        return []
    gone = select(knowledge_base.c.pk).where(~knowledge_bases.NOT_DELETED).limit(1).with_for_update(skip_locked=True)
    if (kb_pk := (await connection.execute(gone)).scalar_one_or_none()) is not None:
        return await _carry_out_knowledge_base(connection, kb_pk)
    if await organisation_deletion.carry_out(connection):
        return []
    if await _delete_large(connection, block, block.c.live_count == literal_column("0")):
        return []
    for table in shared_indexes.PARTS:
        if await _delete_large(connection, table, table.c.binding_pk.is_(None)):
            return []
    if await shared_indexes.expire(connection):
        return []
    # The last chunks of a deleted context have now been deleted.
    orphans = delete(binding).where(binding.c.context_pk.is_(None), ~exists().where(_c.binding_pk == binding.c.pk))
    await connection.execute(orphans)
    return None


async def _carry_out_knowledge_base(connection: AsyncConnection, kb_pk: int) -> list[int]:
    pks = (await connection.execute(select(_c.pk).where(_in(kb_pk)).order_by(_c.pk).limit(STEP))).scalars().all()
    if pks:
        await delete_rows(connection, await _first_step(connection, pks))
        return []
    for table in (block, *shared_indexes.PARTS):
        if await _delete_large(connection, table, _bound_in(table, kb_pk)):
            return []
    bindings = (await connection.execute(select(binding.c.pk).where(binding.c.kb_pk == kb_pk))).scalars().all()
    await connection.execute(delete(knowledge_base).where(knowledge_base.c.pk == kb_pk))
    return list(bindings)


async def _delete_large(connection: AsyncConnection, table: Table, gone: ColumnElement[bool]) -> bool:
    """Deletes as many of these rows with `stored_bytes` as one transaction does; returns whether there were any."""
    query = select(table.c.pk, table.c.stored_bytes).where(gone).limit(_LARGE_ROWS).with_for_update(skip_locked=True)
    found = (await connection.execute(query)).all()
    pks: list[int] = []
    taken = 0
    for pk, size in found:
        if pks and taken + size > STEP_BYTES:
            break
        pks.append(pk)
        taken += size
    await connection.execute(delete(table).where(table.c.pk.in_(pks)))
    return bool(pks)


def _bound_in(table: Table, kb_pk: int) -> ColumnElement[bool]:
    """The condition for rows of bindings of a knowledge base."""
    return table.c.binding_pk.in_(select(binding.c.pk).where(binding.c.kb_pk == kb_pk))


async def _first_step(connection: AsyncConnection, pks: Sequence[int]) -> list[int]:
    """Returns as many of the keys as one transaction deletes; deleted data is overwritten through the database's
    log."""
    async for step in bounded_steps(connection, pks, STEP):
        return step
    return []


def _in(kb_pk: int) -> ColumnElement[bool]:
    return _c.pk.between(chunk_pk(kb_pk, 0), chunk_pk(kb_pk, MAX_CHUNK_ID))


async def free_names(connection: AsyncConnection, binding_pk: int, names: Collection[str]) -> None:
    """Frees these unique names from deleted chunks whose rows still exist, so that other chunks can have them."""
    if not (await connection.execute(select(exists().select_from(deleted_chunk)))).scalar():
        return  # which is nearly always so
    marked = _c.pk.in_(select(deleted_chunk.c.pk))
    for step in steps(map(unique_key, names)):
        held = (_c.binding_pk == binding_pk, _c.unique_name.in_(step))
        await connection.execute(update(chunk).where(*held, marked).values(unique_name=None))
