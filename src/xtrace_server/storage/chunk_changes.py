"""What has changed of a binding since a revision of its knowledge base: for clients that keep an index of their own.

A client that has applied everything up to a revision, and asks for what came after it, is told of every difference: the
chunks that were written, and, if any chunk left a binding, which chunks are there.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Final

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from xtrace_server.storage.contexts import Binding
from xtrace_server.storage.deletions import NOT_DELETED
from xtrace_server.storage.schema import chunk, chunk_id_of

_RANGES_AT_ONCE: Final = 5000

_c = chunk.c


async def written_since(
    connection: AsyncConnection, binding: Binding, revision: int, after_pk: int, limit: int
) -> list[int]:
    """The ids of the binding's chunks, above a key, that were written after the revision: ascending, at most `limit`.

    Revision 0 is before every write.
    """
    pks = (await connection.execute(written_query(binding, revision, after_pk).limit(limit))).scalars()
    return [chunk_id_of(pk) for pk in pks]


def written_query(binding: Binding, revision: int, after_pk: int) -> Select[int]:
    """The query for their keys, without a limit."""
    conditions = [_c.binding_pk == binding.pk, NOT_DELETED]
    if not revision:
        return select(_c.pk).where(*conditions, _c.pk > after_pk).order_by(_c.pk)
    # An expression, so that the database reads what was written by the index on the revision, and sorts that, instead
    # of walking the whole binding in the order of the keys.
    key = _c.pk + 0
    return select(_c.pk).where(*conditions, _c.revision > revision, key > after_pk).order_by(key)


async def living_ranges(connection: AsyncConnection, binding: Binding) -> AsyncIterator[Sequence[tuple[int, int]]]:
    """The ids of all chunks of the binding, in parts: ascending ranges as short as can be, both ends included."""
    async for rows in (await connection.stream(living_query(binding))).partitions(_RANGES_AT_ONCE):
        yield [(chunk_id_of(first), chunk_id_of(last)) for first, last in rows]


def living_query(binding: Binding) -> Select[int, int]:
    """The query for the first and the last key of each range."""
    # Keys without a gap between them are all as far from their position.
    island = (_c.pk - func.row_number().over(order_by=_c.pk)).label("island")
    living = select(_c.pk, island).where(_c.binding_pk == binding.pk, NOT_DELETED).subquery()
    first = func.min(living.c.pk)
    return select(first, func.max(living.c.pk)).group_by(living.c.island).order_by(first)
