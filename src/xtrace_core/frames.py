"""The framed answer to a search: rows as arrays, in blocks that can be read while later ones are computed.

It carries the same data as the MessagePack answer of the HTTP contract, without an object for each row
(docs/formats.md, "Framed search answer"). Integers are little-endian:

    head    "XTR1" ‖ ciphertexts a row (u32) ‖ ciphertext width in bytes (u32) ‖ rows in all (u64)
    block   rows in this block (u32, not 0) ‖ nonce width (u8)
            ‖ chunk ids (u64 each) ‖ nonce lengths (u8 each, 0 for none) ‖ nonces, padded ‖ ciphertexts, padded
    end     0 (u32)

Chunk ids ascend through all blocks. A stream without its end was cut off.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xtrace_core.arithmetic import Rows
from xtrace_core.limits import MAX_BLOCK_BYTES, MAX_BLOCK_ROWS, MAX_CIPHERTEXT_BYTES, MAX_CIPHERTEXTS, MAX_ROWS
from xtrace_core.wire import MAX_NONCE_BYTES

MEDIA_TYPE = "application/vnd.xtrace.search-rows"

_MAGIC = b"XTR1"
_HEAD = struct.Struct("<4sIIQ")
_BLOCK = struct.Struct("<IB")
_END = struct.pack("<I", 0)
_ROW_COUNT = struct.Struct("<I")


class InvalidFrames(ValueError):
    """The stream is not a framed answer: it is truncated, out of order, or has inconsistent lengths."""


@dataclass(frozen=True, slots=True)
class RowBlock:
    """Some rows of an answer: `chunk_ids` (n,) int64 ascending, `ciphertexts` (n, count, width) uint8 little-endian,
    `nonces` (n, nonce width) uint8 padded with zeros, `nonce_lengths` (n,) uint8, 0 where a row has none.
    """

    chunk_ids: NDArray[np.int64]
    ciphertexts: Rows
    nonces: Rows
    nonce_lengths: Rows

    def __len__(self) -> int:
        return len(self.chunk_ids)

    def nonce(self, position: int) -> bytes | None:
        """The nonce of a row; None for a row without one."""
        return self.nonces[position, : self.nonce_lengths[position]].tobytes() or None


def head(count: int, width: int, rows: int) -> bytes:
    """The stream's beginning, for `rows` rows of `count` ciphertexts padded to `width` bytes each."""
    return _HEAD.pack(_MAGIC, count, width, rows)


def block(chunk_ids: NDArray[np.int64], ciphertexts: Rows, nonces: Sequence[bytes | None]) -> bytes:
    """A block of at least one row; `ciphertexts` is any array of the rows' bytes, in order."""
    data = [nonce or b"" for nonce in nonces]
    lengths = bytes(map(len, data))
    width = max(lengths)
    # In almost every context, all have the same length.
    padded = b"".join(data if min(lengths) == width else [nonce.ljust(width, b"\0") for nonce in data])
    ids = chunk_ids.astype("<u8").tobytes()
    return b"".join((_BLOCK.pack(len(data), width), ids, lengths, padded, np.ascontiguousarray(ciphertexts).data))


def end() -> bytes:
    """The stream's end."""
    return _END


class FrameReader:
    """Reads a framed answer piece by piece as it arrives, and checks all of it.

    Holds at most one block and one piece in memory.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._head: tuple[int, int, int] | None = None
        self._rows = 0
        self._last_id = 0
        self._ended = False

    def feed(self, data: bytes) -> Iterator[RowBlock]:
        """The blocks that the data completes. Raises `InvalidFrames`."""
        self._buffer += data
        if self._head is None:
            if len(self._buffer) < _HEAD.size:
                return
            self._head = _checked_head(*_HEAD.unpack(self._take(_HEAD.size)))
        while (found := self._next_block()) is not None:
            yield found
        if self._ended and self._buffer:
            raise InvalidFrames("the answer continues after its end")

    def close(self) -> Sequence[RowBlock]:
        """Ends the stream; no blocks are left then.

        Raises `InvalidFrames` if the answer was truncated.
        """
        if not self._ended:
            raise InvalidFrames("the answer was cut off before its end")
        return ()

    def _next_block(self) -> RowBlock | None:
        count, width, rows = self._head or (0, 0, 0)
        if self._ended or len(self._buffer) < _ROW_COUNT.size:
            return None
        (block_rows,) = _ROW_COUNT.unpack_from(self._buffer)
        if block_rows == 0:
            if self._rows != rows:
                raise InvalidFrames(f"the answer announced {rows} rows and has {self._rows}")
            self._take(_ROW_COUNT.size)
            self._ended = True
            return None
        if self._rows + block_rows > rows or block_rows > MAX_BLOCK_ROWS:
            raise InvalidFrames(f"a block has {block_rows} rows, {rows - self._rows} are left of the announced number")
        if len(self._buffer) < _BLOCK.size:
            return None
        _, nonce_width = _BLOCK.unpack_from(self._buffer)
        size = block_rows * (8 + 1 + nonce_width + count * width)
        if nonce_width > MAX_NONCE_BYTES or size > MAX_BLOCK_BYTES:
            raise InvalidFrames(
                f"a block has nonces of {nonce_width} bytes and {size} bytes in total, which is too many"
            )
        if len(self._buffer) < _BLOCK.size + size:
            return None
        self._take(_BLOCK.size)
        return self._checked_block(self._take(size), block_rows, nonce_width)

    def _checked_block(self, data: bytes, rows: int, nonce_width: int) -> RowBlock:
        count, width, _ = self._head or (0, 0, 0)
        edges = np.cumsum([8 * rows, rows, nonce_width * rows])
        raw = np.frombuffer(data, dtype=np.uint8)
        ids, lengths, nonces, ciphertexts = np.split(raw, edges)
        chunk_ids = ids.view("<i8")
        # Negative ids first: the difference to one far below 0 wraps around to a positive number.
        if chunk_ids.min() < 0 or (chunk_ids[0] <= self._last_id and self._rows) or (np.diff(chunk_ids) <= 0).any():
            raise InvalidFrames("the rows are not sorted by ascending chunk id")
        if lengths.max() > nonce_width:
            raise InvalidFrames("a nonce is longer than the block's nonces")
        self._rows += rows
        self._last_id = int(chunk_ids[-1])
        return RowBlock(chunk_ids, ciphertexts.reshape(rows, count, width), nonces.reshape(rows, nonce_width), lengths)

    def _take(self, size: int) -> bytes:
        taken = bytes(memoryview(self._buffer)[:size])
        del self._buffer[:size]
        return taken


def _checked_head(magic: bytes, count: int, width: int, rows: int) -> tuple[int, int, int]:
    if magic != _MAGIC:
        raise InvalidFrames("the answer does not begin like a framed answer")
    # While nothing is stored, the width is unknown.
    if not (1 <= count <= MAX_CIPHERTEXTS and 1 <= width <= MAX_CIPHERTEXT_BYTES) and rows:
        raise InvalidFrames(f"the answer has {count} ciphertexts of {width} bytes a row, which no scheme has")
    if rows > MAX_ROWS:
        raise InvalidFrames(f"the answer announces {rows} rows, more than the {MAX_ROWS} that a search can have")
    return count, width, rows
