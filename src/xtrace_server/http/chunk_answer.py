"""A JSON list of chunks, encoded step by step and sent as fast as the client reads it. It is buffered in memory while
there is room, and otherwise in a temporary file.

So a slow reader blocks neither a transaction nor memory that others need.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, Final

import msgspec
from fastapi import Response

from xtrace_core.wire import Chunk
from xtrace_server.http.answers import JSON, StreamedAnswer
from xtrace_server.limits.in_flight import RunningRequest
from xtrace_server.search.spool import disk_faults

PIECE_BYTES: Final = 256 * 1024


class ChunkAnswer:
    """The answer to one request; `response` closes the list and answers with it, once."""

    def __init__(self, running: RunningRequest, folder: Path, head: bytes = b"[") -> None:
        """`folder` is the folder of the file; `head` ends with the list's opening bracket."""
        self._running = running
        self._folder = folder
        self._pieces = [head]
        self._file: IO[bytes] | None = None
        self._size = len(head)
        self._is_empty = True

    def encode(self, chunks: list[Chunk]) -> bytes:
        """Encodes some of the chunks as elements of the list. Safe to call from any thread."""
        return msgspec.json.encode(chunks)[1:-1]

    async def add(self, encoded: bytes) -> None:
        """Appends what `encode` returned to the list. Raises `StorageFull` and `StorageReadOnly`."""
        if not self._is_empty:
            await self._append(b",")
        self._is_empty = False
        await self._append(encoded)

    def reserve(self, size: int) -> None:
        """Reserves memory (bytes) for the keys of the chunks. Raises `Overloaded`."""
        self._running.reserve_keys(size)

    async def response(self, tail: bytes = b"]") -> Response:
        """Returns status 200 with the list; `tail` begins with the closing bracket."""
        await self._append(tail)
        if self._file is None and self._size <= PIECE_BYTES:
            return Response(b"".join(self._pieces), media_type=JSON)
        return StreamedAnswer(self._in_turn(), media_type=JSON, headers={"content-length": str(self._size)})

    async def _append(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._file is None and self._running.try_take("answers", len(piece)):
            self._pieces.append(piece)
            return
        with disk_faults():
            await asyncio.to_thread(self._write, piece)

    def _write(self, piece: bytes) -> None:
        if self._file is None:
            # It does not have a name, and disappears with the request.
            file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - closed by the request
            self._file = self._running.held.enter_context(file)
        self._file.write(piece)
        self._file.flush()

    async def _in_turn(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            for start in range(0, len(piece), PIECE_BYTES):
                yield piece[start : start + PIECE_BYTES]
        if self._file is None:
            return
        await asyncio.to_thread(self._file.seek, 0)
        while piece := await asyncio.to_thread(self._file.read, PIECE_BYTES):
            yield piece
