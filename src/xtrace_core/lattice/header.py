"""The header of a block: what its parts are, under a tag that only clients can compute (docs/formats.md, "Blocks")."""

import struct
from dataclasses import dataclass
from typing import Final, Self

from xtrace_core.lattice.parameters import BLOCK_ROWS, DEGREE, HEADER_BYTES, slabs, words

_FORMAT: Final = struct.Struct("<4sHBBHHI32s32s32s")
_MAGIC: Final = b"XLB1"
_LOG2_DEGREE: Final = DEGREE.bit_length() - 1
_TAG_BYTES: Final = 32


class InvalidHeader(ValueError):
    """The data is not the header of a block."""


@dataclass(frozen=True, slots=True)
class BlockHeader:
    """What a header says."""

    embed_len: int
    count: int
    """The vectors in the block."""
    nonce: bytes
    sha256: bytes
    """Of the body."""
    tag: bytes = bytes(_TAG_BYTES)

    @classmethod
    def parsed(cls, data: bytes) -> Self:
        """Raises `InvalidHeader` unless the data is a header with possible values."""
        if len(data) != HEADER_BYTES:
            raise InvalidHeader(f"the block's header has {len(data)} bytes, expected {HEADER_BYTES}")
        _, embed_len, _, _, count, _, _, nonce, sha256, tag = _FORMAT.unpack(data)
        header = cls(embed_len, count, nonce, sha256, tag)
        if header.packed() != data or not embed_len or not 1 <= count <= BLOCK_ROWS:
            raise InvalidHeader("the block's header is not valid: its format, sizes or count are not of this scheme")
        return header

    def packed(self) -> bytes:
        """Returns the header as bytes."""
        d = self.embed_len
        return _FORMAT.pack(
            _MAGIC, d, slabs(d) % 256, _LOG2_DEGREE, self.count, 0, words(d), self.nonce, self.sha256, self.tag
        )

    def untagged(self) -> bytes:
        """Returns what the tag authenticates: all that precedes it."""
        return self.packed()[:-_TAG_BYTES]
