"""Reads an archive from any source: checks everything, and uses limited memory."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import msgspec

from xtrace_server.archive import manifest as manifests
from xtrace_server.archive.container import ArchiveUnusable, MemberReader
from xtrace_server.archive.manifest import CHECKSUMS, MANIFEST, MAX_MANIFEST_BYTES, Manifest
from xtrace_server.archive.writing import MAX_ROW_BYTES, PART_BYTES, array_head, checksum_line, part_name

_HEAD_BYTES = 5


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of one table, in the order of its columns."""

    number: int
    """Counted from 1 through all tables: after an interruption, a reader can continue after the last one."""
    table: str
    rows: list[tuple[Any, ...]]


class ArchiveReader:
    """Reads the manifest at once, and then the parts; `file` may be a pipe. Raises `ArchiveUnusable` and `OSError`."""

    def __init__(self, file: BinaryIO) -> None:
        self._members = MemberReader(file)
        self._sums = hashlib.sha256()
        self._sums_size = 0
        name, size = self._members.begin()
        if name != MANIFEST or size > MAX_MANIFEST_BYTES:
            raise ArchiveUnusable("it is not an archive of XTrace")
        data = self._members.read(size)
        self._count(name, data)
        self.manifest: Manifest = manifests.decoded(data)

    def parts(self) -> Iterator[Part]:
        """Yields the parts, one in memory at a time. They are trustworthy only once the last one was yielded.

        Raises `ArchiveUnusable` as soon as something differs from what a writer would have written.
        """
        tables = iter(self.manifest.tables)
        table, decoder = "", None
        number = 0
        while (member := self._members.begin())[0] != CHECKSUMS:
            number += 1
            name, size = member
            while decoder is None or name != part_name(number, table):
                following = next(tables, None)
                if following is None:
                    raise ArchiveUnusable(f"it is damaged: {name} is in the wrong place")
                table, decoder = following.name, following.rows()
            data = self._part(name, size)
            try:
                rows = decoder.decode(data)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                raise ArchiveUnusable(f"it is damaged: {name} does not contain rows of the table {table}") from None
            self._count(name, data)
            del data
            yield Part(number, table, rows)
        self._check_sums(member[1])

    @property
    def digest(self) -> str:
        """The SHA-256 of the checksums in hexadecimal, once the last part was read; it identifies the archive."""
        return self._sums.hexdigest()

    def checked_rows(self) -> int:
        """Reads and checks the whole archive, and returns its number of rows. Raises what `parts` raises."""
        return sum(len(part.rows) for part in self.parts())

    def _part(self, name: str, size: int) -> bytes:
        # A part above the usual size has one row: many small values would need a multiple of its size in memory.
        limit = PART_BYTES + _HEAD_BYTES
        if size > MAX_ROW_BYTES + _HEAD_BYTES:
            raise ArchiveUnusable(f"{name} is larger than the maximum size of a row")
        data = self._members.read(size)
        if size > limit and data[:1] != array_head(1):
            raise ArchiveUnusable(f"{name} is larger than the maximum size of a part")
        return data

    def _count(self, name: str, data: bytes) -> None:
        line = checksum_line(hashlib.sha256(data).hexdigest(), name)
        self._sums.update(line)
        self._sums_size += len(line)

    def _check_sums(self, size: int) -> None:
        found = hashlib.sha256()
        for piece in self._members.pieces(size):
            found.update(piece)
        if size != self._sums_size or found.digest() != self._sums.digest():
            raise ArchiveUnusable(f"it is damaged: its members do not match {CHECKSUMS}")
        self._members.end()
