"""Rows of large knowledge bases that a scanner holds elsewhere: which rows, how they get there, and how they change.

A segment has the rows of a fixed range of chunk ids, so that all servers divide a knowledge base in the same way and
find by name what another one has stored. Ranges that can still grow stay in this process.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, pairwise

import numpy as np

from xtrace_server.errors import Unavailable
from xtrace_server.search.interface import AnySegment, HeldSegment, Remote, Segment
from xtrace_server.search.vector_set import VectorSet, joined, segment_of, vector_set
from xtrace_server.storage import vectors
from xtrace_server.storage.candidates import Candidates
from xtrace_server.storage.database import Connection, Database
from xtrace_server.storage.schema import MAX_CHUNK_ID
from xtrace_server.storage.vectors import Keys

_SPARSE = 2
"""A segment is rebuilt once fewer than one in this many of its rows are left."""


def held_bytes(remote: Remote, rows: int, row_bytes: int) -> int:
    """Returns the approximate local memory of rows that are held elsewhere: their keys, and the growing range."""
    return rows * 8 + remote.segment_rows * (row_bytes + 64)


@dataclass(frozen=True, slots=True)
class Holding:
    """Transfers the rows of one knowledge base, as one transaction sees them, to where they are held."""

    database: Database
    remote: Remote
    organisation_id: str
    connection: Connection
    candidates: Candidates
    row_bytes: int

    async def loaded(self) -> AsyncIterator[AnySegment]:
        """Yields every row of the binding, by ascending key."""
        async for segment in self._in_ranges(vectors.read_all(self.connection, self.candidates.binding)):
            yield await self._brought(segment)

    async def refreshed(self, old: VectorSet) -> VectorSet:
        """Returns the set as of the transaction; `old` is an older set without the rows removed since."""
        binding, revision = self.candidates.binding, self.candidates.kb.revision
        changed = await vectors.newer_pks(self.connection, binding, old.revision)
        ranges, ours = await asyncio.to_thread(self._divided, old, changed)
        blocks = [block async for block in vectors.read_some(self.connection, ours)]
        newer = vector_set(revision, blocks, self.row_bytes)
        here = await asyncio.to_thread(VectorSet(old.revision, old.here).merged, newer)
        segments: list[AnySegment] = [
            one for one in old.segments if isinstance(one, HeldSegment) and self._range(one) not in ranges
        ]
        for number in sorted(ranges):
            segments.extend([await self._brought(segment) async for segment in self._read(number)])
        parts = [part for one in here.here for part in cut(one, self.remote.segment_rows)]
        for _, together in groupby(parts, key=self._range):
            segments.append(await self._brought(joined(list(together))))
        return VectorSet(revision, tuple(sorted(segments, key=lambda segment: int(segment.pks[0]))))

    def _divided(self, old: VectorSet, changed: Sequence[int]) -> tuple[set[int], list[int]]:
        """Returns the ranges to read again, and the changed rows of the others, which stay in this process."""
        held = {self._range(one): one for one in old.segments if isinstance(one, HeldSegment)}
        ranges = {number for number, one in held.items() if len(one.pks) * _SPARSE < one.whole}
        ours = []
        for pk in changed:
            number = (pk & MAX_CHUNK_ID) // self.remote.segment_rows
            if number in held:
                ranges.add(number)
            else:
                ours.append(pk)
        return ranges, ours

    def _range(self, segment: AnySegment) -> int:
        return int(segment.pks[0] & MAX_CHUNK_ID) // self.remote.segment_rows

    async def _read(self, number: int) -> AsyncIterator[Segment]:
        first = self.candidates.kb.first_pk + number * self.remote.segment_rows
        last = first + self.remote.segment_rows - 1
        async for block in vectors.read_between(self.connection, self.candidates.binding, first, last):
            yield segment_of(block, self.row_bytes)

    async def _in_ranges(self, blocks: AsyncIterator[vectors.VectorBlock]) -> AsyncIterator[Segment]:
        waiting: list[Segment] = []
        async for block in blocks:
            for part in cut(segment_of(block, self.row_bytes), self.remote.segment_rows):
                if waiting and self._range(waiting[0]) != self._range(part):
                    yield joined(waiting)
                    waiting = []
                waiting.append(part)
        if waiting:
            yield joined(waiting)

    async def _brought(self, segment: Segment) -> AnySegment:
        """Returns the segment, held elsewhere unless its range can still grow."""
        if (self._range(segment) + 1) * self.remote.segment_rows > self.candidates.kb.next_chunk_id:
            return segment
        await asyncio.to_thread(lambda: segment.name)
        place = await self.remote.hold(segment)
        reload = partial(_reloaded, self.database, self.organisation_id, self.candidates.kb.revision, self.row_bytes)
        return HeldSegment(segment.pks, self.row_bytes, place, reload)


async def _reloaded(database: Database, organisation_id: str, revision: int, row_bytes: int, pks: Keys) -> Segment:
    async with database.read(organisation_id) as connection:
        blocks = [block async for block in vectors.read_some(connection, pks.tolist(), revision)]
    segments = [segment_of(block, row_bytes) for block in blocks]
    if sum([len(segment.pks) for segment in segments]) != len(pks):
        raise Unavailable("rows that the cluster lost were changed during the search: search again")
    return joined(segments)


def cut(segment: Segment, segment_rows: int) -> Iterator[Segment]:
    """Yields the rows by the ranges of their chunk ids."""
    numbers = (segment.pks & MAX_CHUNK_ID) // segment_rows
    for start, end in pairwise([0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(segment.pks)]):
        part = slice(start, end)
        yield Segment(segment.pks[part], segment.rows[part], segment.nonces[part])
