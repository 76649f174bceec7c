"""Rows of a search that the cache has no room for: in memory as long as all such searches together fit in a budget,
beyond that in a temporary file.

A search keeps its rows until its client has read the answer, however slowly: the transaction that they came from is
over by then. So what many slow readers hold must have a common bound.
"""

import asyncio
import errno
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from xtrace_server.errors import StorageFull, StorageReadOnly
from xtrace_server.search.interface import Segment
from xtrace_server.search.vector_set import segments_of
from xtrace_server.storage.vectors import VectorBlock


class Spool:
    """Where searches keep rows; `folder` takes the files."""

    def __init__(self, folder: Path, memory_bytes: int) -> None:
        self._folder = folder
        self._free = memory_bytes

    def hold(
        self, blocks: AsyncIterator[VectorBlock], count: int, row_bytes: int
    ) -> tuple[AsyncIterator[Segment], Callable[[], None]]:
        """The rows in the blocks, of which there are at most `count`, and what gives back the memory that is reserved
        for them; it is to be called once. Iterating raises `StorageFull` and `StorageReadOnly`.
        """
        wanted = count * row_bytes
        if wanted > self._free:
            return self._in_file(blocks, wanted, row_bytes), lambda: None
        self._free -= wanted
        return segments_of(blocks, row_bytes), lambda: self._give_back(wanted)

    def _give_back(self, size: int) -> None:
        self._free += size

    async def _in_file(self, blocks: AsyncIterator[VectorBlock], size: int, row_bytes: int) -> AsyncIterator[Segment]:
        # Nobody else sees the file, and it is gone as soon as the last array over it is.
        with _disk_faults(), tempfile.TemporaryFile(dir=self._folder) as file:
            if hasattr(os, "posix_fallocate"):
                # A full disk is noticed before the answer begins.
                await asyncio.to_thread(os.posix_fallocate, file.fileno(), 0, max(size, 1))
            async for block in blocks:
                offset = file.tell()
                await asyncio.to_thread(file.write, b"".join(block.rows))
                await asyncio.to_thread(file.flush)
                rows = np.memmap(file, np.uint8, "r", offset, (len(block.pks), row_bytes))
                yield Segment(np.array(block.pks, dtype=np.int64), rows, tuple(block.nonces))


@contextmanager
def _disk_faults() -> Iterator[None]:
    """Turns a full or read-only disk into the answer that a database gives to it."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull from None
        if error.errno == errno.EROFS:
            raise StorageReadOnly from None
        raise
