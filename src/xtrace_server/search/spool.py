"""Rows of a search that the cache has no room for: in memory as long as all such searches together fit in a budget,
beyond that in a temporary file.

A search keeps its rows until its client has read the answer, however slowly: the transaction that they came from is
over by then. So what many slow readers hold must have a common bound.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xtrace_server.search.vector_set import Segment, segment_of
from xtrace_server.storage.faults import disk_faults
from xtrace_server.storage.vectors import VectorBlock


@dataclass(frozen=True, slots=True)
class Held:
    """Segments, and what gives back the memory that is reserved for them; it is called once."""

    segments: Sequence[Segment]
    release: Callable[[], None]


class Spool:
    """Where searches keep rows; `folder` takes the files."""

    def __init__(self, folder: Path, memory_bytes: int) -> None:
        self._folder = folder
        self._free = memory_bytes

    async def hold(self, blocks: AsyncIterator[VectorBlock], count: int, row_bytes: int) -> Held:
        """The rows in the blocks, of which there are at most `count`. Raises `StorageFull` and `StorageReadOnly`."""
        wanted = count * row_bytes
        if wanted > self._free:
            with disk_faults():
                return Held(await self._in_file(blocks, row_bytes), lambda: None)
        self._free -= wanted
        try:
            segments = [segment_of(block, row_bytes) async for block in blocks if block.pks]
        except BaseException:
            self._give_back(wanted)
            raise
        return Held(segments, lambda: self._give_back(wanted))

    def _give_back(self, size: int) -> None:
        self._free += size

    async def _in_file(self, blocks: AsyncIterator[VectorBlock], row_bytes: int) -> list[Segment]:
        segments = []
        # Nobody else sees the file, and it is gone as soon as the last array over it is.
        with tempfile.TemporaryFile(dir=self._folder) as file:
            async for block in blocks:
                if not block.pks:
                    continue
                offset = file.tell()
                await asyncio.to_thread(file.write, b"".join(block.rows))
                await asyncio.to_thread(file.flush)
                rows = np.memmap(file, np.uint8, "r", offset, (len(block.pks), row_bytes))
                segments.append(Segment(np.array(block.pks, dtype=np.int64), rows, tuple(block.nonces)))
        return segments
