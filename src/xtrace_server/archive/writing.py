"""Writes an archive. Its size and number of rows need not be known in advance."""

import hashlib
import tempfile
from collections.abc import Sequence
from types import TracebackType
from typing import Any, BinaryIO, Final, Self

import msgspec

from xtrace_server.archive.container import END, header_of, padding_of
from xtrace_server.archive.manifest import CHECKSUMS, MANIFEST, Manifest

PART_BYTES: Final = 2**20
"""The maximum size of a part, unless it is a single row."""
MAX_ROW_BYTES: Final = 2**30
"""The maximum that SQLite accepts for a row."""

_SUMS_IN_MEMORY: Final = 2**20


class ArchiveWriter:
    """Writes the manifest at once, then rows, in the order of the manifest's tables.

    A context manager: the archive is complete when the block ends without an exception. Keeps one part in memory.
    Raises `OSError`.
    """

    def __init__(self, file: BinaryIO, manifest: Manifest) -> None:
        self._file = file
        self._encoder = msgspec.msgpack.Encoder()
        self._sums = tempfile.SpooledTemporaryFile(_SUMS_IN_MEMORY)  # noqa: SIM115 - closed by `__exit__`
        self._digest = hashlib.sha256()
        self._part: list[bytes] = []
        self._part_bytes = 0
        self._table = ""
        self._number = 0
        self.bytes = 0
        """The bytes written so far."""
        try:
            self._member(MANIFEST, [manifest.encoded()])
        except BaseException:
            self._sums.close()
            raise

    def add(self, table: str, row: Sequence[Any]) -> None:
        """Adds a row of a table: one value for each column. Raises `ValueError` for a row above 1 GiB."""
        encoded = self._encoder.encode(row)
        if len(encoded) > MAX_ROW_BYTES:
            raise ValueError(f"a row of the table {table} is larger than 1 GiB")
        if table != self._table or self._part_bytes + len(encoded) > PART_BYTES:
            self._end_part()
            self._table = table
        self._part.append(encoded)
        self._part_bytes += len(encoded)

    @property
    def digest(self) -> str:
        """The SHA-256 of the checksums in hexadecimal, once the archive is complete; the same as
        `ArchiveReader.digest`."""
        return self._digest.hexdigest()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._sums:
            if kind is None:
                self._finish()

    def _finish(self) -> None:
        self._end_part()
        size = self._sums.tell()
        self._sums.seek(0)
        self._write(header_of(CHECKSUMS, size))
        while piece := self._sums.read(_SUMS_IN_MEMORY):
            self._write(piece)
        self._write(padding_of(size))
        self._write(END)

    def _end_part(self) -> None:
        if self._part:
            self._number += 1
            self._member(part_name(self._number, self._table), [array_head(len(self._part)), *self._part])
        self._part, self._part_bytes = [], 0

    def _member(self, name: str, pieces: list[bytes]) -> None:
        digest = hashlib.sha256()
        size = sum(map(len, pieces))
        self._write(header_of(name, size))
        for piece in pieces:
            digest.update(piece)
            self._write(piece)
        self._write(padding_of(size))
        line = checksum_line(digest.hexdigest(), name)
        self._sums.write(line)
        self._digest.update(line)

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self.bytes += len(data)


def part_name(number: int, table: str) -> str:
    """Returns the name of a part; parts are counted from 1 through all tables."""
    return f"rows/{number:09d}.{table}.msgpack"


def checksum_line(digest: str, name: str) -> bytes:
    """Returns the checksum line of a member, in the format of `sha256sum`."""
    return f"{digest}  {name}\n".encode()


def array_head(length: int) -> bytes:
    """Returns the MessagePack header of an array of this length."""
    if length < 16:
        return bytes([0x90 | length])
    return b"\xdc" + length.to_bytes(2, "big") if length < 2**16 else b"\xdd" + length.to_bytes(4, "big")
