"""Stores rows that do not fit into the cache: in memory, within a budget for all such searches, or in a temporary file.

A search keeps its rows until its client has read the answer, long after its transaction has ended. So everything that
slow readers use needs a common limit.
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
    """Stores rows for searches; `folder` is the folder of the files."""

    def __init__(self, folder: Path, memory_bytes: int) -> None:
        self._folder = folder
        self._memory_bytes = self._free = memory_bytes

    @property
    def held_bytes(self) -> int:
        """The memory reserved for rows."""
        return self._memory_bytes - self._free

    def hold(
        self, blocks: AsyncIterator[VectorBlock], count: int, row_bytes: int
    ) -> tuple[AsyncIterator[Segment], Callable[[], None]]:
        """Returns the rows in the blocks, at most `count`, and a function that releases the memory reserved for them.

        Call it once. Iterating raises `StorageFull` and `StorageReadOnly`.
        """
        wanted = count * row_bytes
        if wanted > self._free:
            return self._in_file(blocks, wanted, row_bytes), lambda: None
        self._free -= wanted
        return segments_of(blocks, row_bytes), lambda: self._release(wanted)

    def _release(self, size: int) -> None:
        self._free += size

    async def _in_file(self, blocks: AsyncIterator[VectorBlock], size: int, row_bytes: int) -> AsyncIterator[Segment]:
        # The file does not have a name, and disappears with the last array that maps it.
        with disk_faults(), tempfile.TemporaryFile(dir=self._folder) as file:
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
def disk_faults() -> Iterator[None]:
    """Turns errors of a full or read-only disk into the same answers as those of the database."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull from None
        if error.errno == errno.EROFS:
            raise StorageReadOnly from None
        raise
