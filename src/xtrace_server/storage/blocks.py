"""Reads blocks: what there are, where the candidates of a search are in them, and their parts."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from sqlalchemy import ColumnElement, Row, Select, Text, cast, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from xtrace_core.block_frames import Slots, slots_of, unpacked_ids
from xtrace_core.metadata_filter import EVERY_CHUNK
from xtrace_server.storage import chunks
from xtrace_server.storage.candidates import Candidates
from xtrace_server.storage.chunks import KEY_BYTES, Reserve
from xtrace_server.storage.contexts import Binding
from xtrace_server.storage.schema import block, block_body, chunk, chunk_id_of
from xtrace_server.storage.steps import steps

_BLOCKS_AT_ONCE: Final = 100

_b = block.c
_c = chunk.c


@dataclass(frozen=True, slots=True)
class ListedBlock:
    """A block as lists show it."""

    pk: int
    count: int
    live_count: int
    dead_since: str | None


@dataclass(frozen=True, slots=True)
class Plan:
    """The candidates of a search, those of them in no block, and the blocks that contain the others."""

    candidates: int
    unsealed: int
    blocks: int


@dataclass(frozen=True, slots=True)
class Chosen:
    """The candidates of a search in one block, and the hash that names the block's body."""

    pk: int
    sha256: bytes
    slots: Slots


@dataclass(frozen=True, slots=True)
class BlockParts:
    """What clients need of a block to read its answers. It never changes."""

    pk: int
    header: bytes
    ids: bytes
    hints: bytes


async def list_all(connection: AsyncConnection, binding: Binding) -> list[ListedBlock]:
    """Returns the binding's blocks, in no particular order."""
    query = select(_b.pk, _b.count, _b.live_count, _b.dead_since).where(*_living(binding))
    return [ListedBlock(*row) for row in await connection.execute(query)]


async def plan(connection: AsyncConnection, candidates: Candidates) -> Plan:
    """Returns how many of the candidates are where."""
    if candidates.bounded or candidates.scope.filter != EVERY_CHUNK:
        counted = (func.count(), func.count(_c.block_pk), func.count(_c.block_pk.distinct()))
        query = select(*counted).select_from(chunk).where(*chunks.conditions(candidates))
        found, sealed, touched = (await connection.execute(query)).one()
        return Plan(found, found - sealed, touched)
    total = select(func.count(), func.coalesce(func.sum(_b.live_count), 0)).where(*_living(candidates.binding))
    touched, sealed = (await connection.execute(total)).one()
    found = await chunks.count_all(connection, candidates)
    return Plan(found, found - int(sealed), touched)


async def choose(connection: AsyncConnection, candidates: Candidates, reserve: Reserve) -> list[Chosen]:
    """Returns the blocks that contain candidates, by ascending key. Raises what `reserve` raises."""
    binding = candidates.binding
    query = select(_b.pk, _b.sha256, _b.live).where(*_living(binding)).order_by(_b.pk)
    living = (await connection.execute(query)).all()
    if candidates.scope.filter == EVERY_CHUNK:
        if not candidates.bounded:
            return [Chosen(pk, sha256, slots_of(live)) for pk, sha256, live in living]
        ids = {row.pk: row.ids for row in await connection.execute(select(_b.pk, _b.ids).where(*_living(binding)))}
        between = tuple(map(chunk_id_of, candidates.pk_range))
        chosen = [(Chosen(pk, sha256, slots_of(live)), ids[pk]) for pk, sha256, live in living]
        return await asyncio.to_thread(_between, chosen, *between)
    matching = await _matching_slots(connection, candidates, reserve) if living else {}
    return [Chosen(pk, sha256, matching[pk]) for pk, sha256, _ in living if pk in matching]


async def read_parts(connection: AsyncConnection, binding: Binding, pks: Sequence[int]) -> list[BlockParts]:
    """Returns those of the blocks that exist, in the order of the keys."""
    found: dict[int, BlockParts] = {}
    for step in steps(pks):
        query = select(_b.pk, _b.header, _b.ids, _b.hints).where(_b.pk.in_(step), *_living(binding))
        found |= {row.pk: BlockParts(*row) for row in await connection.execute(query)}
    return [found[pk] for pk in pks if pk in found]


async def read_bodies(connection: AsyncConnection, pks: Collection[int]) -> dict[int, bytes]:
    """Returns the bodies of those of the blocks whose rows exist."""
    query = select(block_body.c.pk, block_body.c.body).where(block_body.c.pk.in_(pks))
    return {row.pk: row.body for row in await connection.execute(query)}


async def existing_bodies(connection: AsyncConnection, hashes: Collection[bytes]) -> set[bytes]:
    """Returns those of the hashes that name the body of a block."""
    found: set[bytes] = set()
    for step in steps(hashes):
        query = select(_b.sha256).where(_b.sha256.in_(step), _b.live_count > 0)
        found |= set((await connection.execute(query)).scalars())
    return found


def _living(binding: Binding) -> tuple[ColumnElement[bool], ...]:
    return _b.binding_pk == binding.pk, _b.live_count > 0


def _between(living: Sequence[tuple[Chosen, bytes]], first: int, last: int) -> list[Chosen]:
    """Returns those of the blocks that have slots of chunks with ids in the range, and only these slots."""
    found = []
    for one, packed in living:
        ids = unpacked_ids(packed)[one.slots]
        slots = one.slots[(first <= ids) & (ids <= last)]
        if len(slots):
            found.append(Chosen(one.pk, one.sha256, slots))
    return found


async def _matching_slots(connection: AsyncConnection, candidates: Candidates, reserve: Reserve) -> dict[int, Slots]:
    """Returns the slots of the candidates, by the block's key."""
    found: dict[int, Slots] = {}
    async for rows in (await connection.stream(slots_query(candidates))).partitions(_BLOCKS_AT_ONCE):
        part = await asyncio.to_thread(_slots, rows)
        reserve(sum(map(len, part.values())) * KEY_BYTES)
        found |= part
    return found


def slots_query(candidates: Candidates) -> Select[int, str]:
    """Returns the query for the keys of the blocks with candidates, each with the slots of these, in any order."""
    # One row for each block: a row for each chunk would take three times as long.
    listed = func.aggregate_strings(cast(_c.slot, Text), ",")
    sealed = select(_c.block_pk, listed).where(*chunks.conditions(candidates), _c.block_pk.is_not(None))
    return sealed.group_by(_c.block_pk)


def _slots(rows: Sequence[Row[int, str]]) -> dict[int, Slots]:
    """Returns the ascending slots in rows of `slots_query`, by the block's key."""
    return {pk: np.sort(np.array(listed.split(","), dtype=np.int64)) for pk, listed in rows}
