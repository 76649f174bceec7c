"""The container of an archive: a tar file in its simplest form (ustar), in which every byte has one allowed value.

Any tar program lists and extracts it. A name and a size determine the header, padding is zero, and nothing follows the
end, so that a hash over the members covers the whole file.
"""

import math
import os
import re
from collections.abc import Iterator
from typing import BinaryIO, Final

BLOCK: Final = 512
END: Final = bytes(2 * BLOCK)

_NAME: Final = re.compile(r"[A-Za-z0-9._/-]{1,99}")
_SIZE: Final = slice(124, 135)
_MAX_SIZE: Final = 8**11 - 1
_AT_ONCE: Final = 2**16


class ArchiveUnusable(Exception):
    """The file is not an archive, or is damaged; the message says which, as the end of a sentence."""


def header_of(name: str, size: int) -> bytes:
    """Returns the header of a member. Raises `ValueError` for an impossible name or size."""
    if not _NAME.fullmatch(name) or not 0 <= size <= _MAX_SIZE:
        raise ValueError("a member's name is short and plain, and its size below 8 GiB")
    fields = (
        name.encode().ljust(100, b"\0"),
        b"0000600\0",  # mode
        b"0000000\0" * 2,  # owner and group
        b"%011o\0" % size,
        b"00000000000\0",  # time
        b"        ",  # the checksum field, as spaces while the checksum is computed
        b"0".ljust(101, b"\0"),  # a regular file, not a link
        b"ustar\x0000".ljust(255, b"\0"),  # owner's and group's names and all else are empty
    )
    unsigned = b"".join(fields)
    return unsigned[:148] + b"%06o\0 " % sum(unsigned) + unsigned[156:]


def padding_of(size: int) -> bytes:
    """Returns the padding after a member of this size, up to the next block."""
    return bytes(-size % BLOCK)


class MemberReader:
    """The members of a file, one after another: `begin`, then `read` or `pieces`, and `end` after the last one.

    The file may be a pipe, so the remaining size may be unknown.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left: float = math.inf
        if file.seekable():
            self._left = file.seek(0, os.SEEK_END)
            file.seek(0)

    def end(self) -> None:
        """Reads the end. Raises `ArchiveUnusable` if it is missing, or if something follows it."""
        if self._take(len(END)) != END:
            raise ArchiveUnusable("it is damaged: its end is missing")
        if self._file.read(1):
            raise ArchiveUnusable("it is damaged: there is data after its end")

    def begin(self) -> tuple[str, int]:
        """Returns the name and the size of the next member, whose bytes are in the file.

        Raises `ArchiveUnusable` for everything that `header_of` does not write.
        """
        header = self._take(BLOCK)
        try:
            name, size = header[:100].rstrip(b"\0").decode("ascii"), int(header[_SIZE], 8)
            canonical = header == header_of(name, size)
        except ValueError:
            canonical = False
        if not canonical:
            raise ArchiveUnusable("it is damaged, or another program wrote it: the header of a member is not valid")
        if size + len(padding_of(size)) + len(END) > self._left:
            raise ArchiveUnusable(f"it is damaged: it ends within {name}")
        return name, size

    def read(self, size: int) -> bytes:
        """Returns the bytes of the current member, whose size `begin` returned."""
        data = self._take(size)
        self._skip_padding(size)
        return data

    def pieces(self, size: int) -> Iterator[bytes]:
        """Yields what `read` returns, a limited number of bytes at a time."""
        left = size
        while left:
            piece = self._take(min(left, _AT_ONCE))
            left -= len(piece)
            yield piece
        self._skip_padding(size)

    def _skip_padding(self, size: int) -> None:
        padding = padding_of(size)
        if self._take(len(padding)) != padding:
            raise ArchiveUnusable("it is damaged: bytes between two members are not zero")

    def _take(self, size: int) -> bytes:
        data = self._file.read(size) if size <= self._left else b""
        if len(data) != size:
            raise ArchiveUnusable("it is damaged: its end is missing")
        self._left -= size
        return data
