"""Reads for the search engine: the ciphertext rows of a binding, in blocks, and their changes."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncConnection

from xtrace_server.storage.candidates import Candidates
from xtrace_server.storage.chunks import pk_query
from xtrace_server.storage.contexts import Binding
from xtrace_server.storage.deletions import NOT_DELETED
from xtrace_server.storage.schema import chunk, ciphertext

BLOCK_ROWS = 2048
_FIRST_ROWS = 256
"""The first block is smaller, because a client is waiting for it."""

Keys: TypeAlias = NDArray[np.int64]

_c = chunk.c


@dataclass(frozen=True, slots=True)
class VectorBlock:
    """Some rows, by ascending key, as three parallel lists."""

    pks: list[int]
    nonces: list[bytes | None]
    rows: list[bytes]


async def read_all(connection: AsyncConnection, binding: Binding) -> AsyncIterator[VectorBlock]:
    """Yields every row of the binding; no block is empty."""
    query = _joined().where(_c.binding_pk == binding.pk, NOT_DELETED).order_by(_c.pk)
    wanted = _FIRST_ROWS
    block = _block(await connection.execute(query.limit(wanted)))
    while block.pks:
        yield block
        if len(block.pks) < wanted:
            return
        wanted = BLOCK_ROWS
        block = _block(await connection.execute(query.where(_c.pk > block.pks[-1]).limit(wanted)))


async def read_newer(connection: AsyncConnection, binding: Binding, revision: int) -> AsyncIterator[VectorBlock]:
    """Yields the rows that were written after this revision of the knowledge base."""
    async for block in read_some(connection, await newer_pks(connection, binding, revision)):
        yield block


async def newer_pks(connection: AsyncConnection, binding: Binding, revision: int) -> list[int]:
    """Returns the keys of the rows that were written after this revision of the knowledge base, ascending."""
    # Sorted by key in the query, SQLite would scan the whole binding, so the few rows are sorted afterwards.
    query = select(_c.pk).where(_c.binding_pk == binding.pk, _c.revision > revision, NOT_DELETED)
    return sorted((await connection.execute(query)).scalars())


async def read_between(
    connection: AsyncConnection, binding: Binding, first_pk: int, last_pk: int
) -> AsyncIterator[VectorBlock]:
    """Yields the rows of the binding in the range of keys, inclusive; no block is empty."""
    query = _joined().where(_c.binding_pk == binding.pk, NOT_DELETED, _c.pk.between(first_pk, last_pk))
    block = _block(await connection.execute(query.order_by(_c.pk)))
    if block.pks:
        yield block


async def read_some(
    connection: AsyncConnection, pks: Sequence[int], revision: int | None = None
) -> AsyncIterator[VectorBlock]:
    """Yields the rows with these ascending keys, without those that do not exist; no block is empty.

    With a revision, also omits rows that were written after it.
    """
    for start, end in pairwise([0, *range(_FIRST_ROWS, len(pks), BLOCK_ROWS), len(pks)]):
        query = _joined().where(_c.pk.in_(pks[start:end])).order_by(_c.pk)
        if revision is not None:
            query = query.where(_c.revision <= revision, NOT_DELETED)
        block = _block(await connection.execute(query))
        if block.pks:
            yield block


async def read_matching(connection: AsyncConnection, candidates: Candidates) -> VectorBlock | None:
    """Returns the rows of the candidates from one query; None if they do not fit into one block."""
    matching = pk_query(candidates).order_by(None)
    query = _joined().where(_c.pk.in_(matching)).order_by(_c.pk).limit(BLOCK_ROWS + 1)
    block = _block(await connection.execute(query))
    return block if len(block.pks) <= BLOCK_ROWS else None


async def read_pks(connection: AsyncConnection, binding: Binding) -> Keys:
    """Returns the keys of the binding's chunks, ascending."""
    query = select(_c.pk).where(_c.binding_pk == binding.pk, NOT_DELETED).order_by(_c.pk)
    # In steps: a list of all of them at once would block everything else.
    steps = (await connection.stream_scalars(query)).partitions(BLOCK_ROWS)
    return np.concatenate([np.empty(0, dtype=np.int64), *[np.array(step, dtype=np.int64) async for step in steps]])


def _joined() -> Select[Any]:
    return select(_c.pk, _c.nonce, ciphertext.c.row).join_from(chunk, ciphertext, ciphertext.c.pk == _c.pk)


def _block(result: Any) -> VectorBlock:
    columns = [list(column) for column in zip(*result.all(), strict=True)]
    return VectorBlock(*columns) if columns else VectorBlock([], [], [])
