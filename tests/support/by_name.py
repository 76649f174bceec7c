"""A scanner as processes elsewhere are one: it is brought rows once, is told names and positions, and may lose rows."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TypeVar

import numpy as np

from xtrace_core.arithmetic import Rows
from xtrace_server.errors import Unavailable
from xtrace_server.search.interface import Computation, Finish, HeldSegment, Place, Segment, Selection

T = TypeVar("T")


class ByName:
    """Holds every segment of a range that cannot grow any more, in this process."""

    def __init__(self, segment_rows: int = 256) -> None:
        self.segment_rows = segment_rows
        self.held: dict[bytes, tuple[Rows, tuple[bytes | None, ...]]] = {}
        self.brought = 0
        self.up = True
        self.lost: set[bytes] = set()
        """Names that are lost just before they are next computed with."""

    @property
    def remote(self) -> "ByName":
        return self

    @property
    def nodes(self) -> int:
        return 1

    @property
    def held_bytes(self) -> int:
        return sum([rows.nbytes for rows, _ in self.held.values()])

    async def start(self) -> None:
        pass

    async def close(self) -> None:
        self.held.clear()

    def wants(self, rows: int, ids: int) -> bool:
        return self.up

    async def hold(self, segment: Segment) -> Place:
        if not self.up:
            raise Unavailable("down")
        if segment.name not in self.held:
            self.held[segment.name] = np.array(segment.rows), segment.nonces
            self.brought += 1
        return Place(segment.name)

    async def scan(
        self, selections: AsyncIterator[Selection | None], computation: Computation, finish: Finish[T]
    ) -> AsyncGenerator[T, None]:
        async for selection in selections:
            await asyncio.sleep(0)
            if selection is None:
                continue
            segment = selection.segment
            if isinstance(segment, Segment):
                yield finish(selection, computation(selection.rows), selection.nonces)
                continue
            rows, nonces = await self._rows(segment)
            each = np.asarray(selection.positions)
            each = each if segment.place.positions is None else segment.place.positions[each]
            yield finish(selection, computation(rows[each]), [nonces[i] for i in each.tolist()])

    async def _rows(self, segment: HeldSegment) -> tuple[Rows, tuple[bytes | None, ...]]:
        if not self.up:
            raise Unavailable("down")
        if segment.place.name in self.lost:
            self.lost.discard(segment.place.name)
            self.held.pop(segment.place.name, None)
        if segment.place.name not in self.held:
            segment.place = await self.hold(await segment.reload(segment.pks))
        return self.held[segment.place.name]
