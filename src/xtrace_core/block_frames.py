"""The answers of the calls for blocks of vectors, in bytes (docs/formats.md, "Answers about blocks").

The answer to a search has the values of the candidates in blocks, and the records of those in no block. Integers are
little-endian:

    head    "XTB1" ‖ bits a value (u8, 12) ‖ slabs (u8) ‖ queries (u8) ‖ 0 (u8) ‖ blocks (u32) ‖ candidates (u64)
            ‖ revision of the knowledge base (u64)
    block   id (u64, not 0) ‖ values (u16) ‖ flag (u8) ‖ if the flag is 1: the slots as a bitmap (128 bytes)
            ‖ for each query and slab: the values, 12 bits each, padded to a byte
    end     0 (u64), then a whole framed answer (`frames`) with the records

Without a bitmap the values are those of the first slots. A fetched block is its id (u64), its header, the length of its
ids (u16), its ids, and its hints. Ids are differences as LEB128.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from xtrace_core import frames
from xtrace_core.frames import InvalidFrames, RowBlock
from xtrace_core.lattice.parameters import BLOCK_ROWS, HEADER_BYTES, VALUE_BITS
from xtrace_core.limits import MAX_ROWS
from xtrace_core.wire import MAX_CHUNK_ID

MEDIA_TYPE: Final = "application/vnd.xtrace.search-blocks"
BLOCKS_MEDIA_TYPE: Final = "application/vnd.xtrace.blocks"
"""The media type of fetched blocks."""

_MAGIC: Final = b"XTB1"
_HEAD: Final = struct.Struct("<4sBBBBIQQ")
_BLOCK: Final = struct.Struct("<QHB")
_BITMAP_BYTES: Final = BLOCK_ROWS // 8
_END: Final = struct.pack("<Q", 0)
_ID: Final = struct.Struct("<Q")
_LENGTH: Final = struct.Struct("<H")
_MAX_ID_OCTETS: Final = 9
_CUT_OFF: Final = "the answer was cut off before its end"

Slots = NDArray[np.int64]
_FIRST_SLOTS: Final = np.arange(BLOCK_ROWS, dtype=np.int64)
_FIRST_SLOTS.flags.writeable = False
_Data = TypeVar("_Data", bytes, memoryview)


@dataclass(frozen=True, slots=True)
class BlockValues:
    """What a search answers for one block: the slots of its candidates, ascending, and their packed values."""

    block_id: int
    slots: Slots
    values: memoryview
    """For each query and slab, each padded to a byte."""


@dataclass(frozen=True, slots=True)
class BlockAnswer:
    """A whole answer to a search of blocks."""

    revision: int
    candidates: int
    blocks: list[BlockValues]
    records: list[RowBlock]
    """The candidates in no block."""


@dataclass(frozen=True, slots=True)
class FetchedBlock:
    """What a client needs of a block to read its values. It never changes."""

    block_id: int
    header: bytes
    hints: bytes
    chunk_ids: NDArray[np.int64]
    """The chunk of each slot."""


def value_bytes(count: int) -> int:
    """Returns how many bytes this number of values takes."""
    return -(-count * VALUE_BITS // 8)


def head(slabs: int, queries: int, blocks: int, candidates: int, revision: int) -> bytes:
    """Returns the beginning of an answer."""
    return _HEAD.pack(_MAGIC, VALUE_BITS, slabs, queries, 0, blocks, candidates, revision)


def bitmap_of(slots: Slots | Sequence[int]) -> bytes:
    """Returns the slots of a block as a bitmap: the first is the lowest bit of the first byte."""
    bits = np.zeros(BLOCK_ROWS, dtype=np.uint8)
    bits[np.asarray(slots, dtype=np.intp)] = 1
    return np.packbits(bits, bitorder="little").tobytes()


@lru_cache(maxsize=256)  # most blocks are whole, so most bitmaps are equal
def slots_of(bitmap: bytes) -> Slots:
    """Returns the slots in a bitmap, ascending and read-only."""
    slots = np.flatnonzero(np.unpackbits(np.frombuffer(bitmap, dtype=np.uint8), bitorder="little"))
    slots.flags.writeable = False
    return slots


def block(block_id: int, slots: Slots, packed: bytes) -> bytes:
    """Returns the values of at least one slot of a block, packed for each query and slab in turn."""
    count = len(slots)
    bitmap = b"" if int(slots[-1]) == count - 1 else bitmap_of(slots)
    return b"".join([_BLOCK.pack(block_id, count, bool(bitmap)), bitmap, packed])


def end() -> bytes:
    """Returns the end of the blocks, after which a framed answer with records follows."""
    return _END


def read_answer(data: bytes, slabs: int, queries: int) -> BlockAnswer:
    """Reads a whole answer for this number of slabs and queries. Raises `InvalidFrames`."""
    magic, bits, told_slabs, told_queries, zero, blocks, candidates, revision = _unpacked(_HEAD, data, 0)
    if magic != _MAGIC or zero:
        raise InvalidFrames("the answer does not begin like an answer about blocks")
    if (bits, told_slabs, told_queries) != (VALUE_BITS, slabs, queries):
        raise InvalidFrames(
            f"the answer has {told_queries} values of {bits} bits in {told_slabs} slabs for each vector, "
            f"expected {queries} of {VALUE_BITS} bits in {slabs}"
        )
    if candidates > MAX_ROWS:
        raise InvalidFrames(f"the answer announces {candidates} candidates, more than the {MAX_ROWS} possible ones")
    position, values, view = _HEAD.size, list[BlockValues](), memoryview(data)
    while view[position : position + _ID.size] != _END:
        one, position = _block(view, position, slabs * queries)
        values.append(one)
    if len(values) != blocks or len({one.block_id for one in values}) != blocks:
        raise InvalidFrames(f"the answer announced {blocks} different blocks and has {len(values)}")
    records = list(_records(view[position + _ID.size :]))
    if sum(len(one.slots) for one in values) + sum(map(len, records)) != candidates:
        raise InvalidFrames(f"the answer announced {candidates} candidates and has others")
    return BlockAnswer(revision, candidates, values, records)


def _block(data: memoryview, position: int, parts: int) -> tuple[BlockValues, int]:
    block_id, count, flag = _unpacked(_BLOCK, data, position)
    position += _BLOCK.size
    if not 0 < count <= BLOCK_ROWS or flag > 1:
        raise InvalidFrames(f"a block has {count} values and the flag {flag}, which is not possible")
    slots = _FIRST_SLOTS[:count]
    if flag:
        slots = slots_of(bytes(_taken(data, position, _BITMAP_BYTES)))
        position += _BITMAP_BYTES
        if len(slots) != count:
            raise InvalidFrames(f"a block has {count} values for {len(slots)} slots")
    values = _taken(data, position, value_bytes(count) * parts)
    return BlockValues(block_id, slots, values), position + len(values)


def _records(data: memoryview) -> Iterator[RowBlock]:
    reader = frames.FrameReader()
    yield from reader.feed(bytes(data))
    yield from reader.close()


def fetched(block_id: int, header: bytes, ids: bytes, hints: bytes) -> bytes:
    """Returns a block as it is sent to a client; `ids` are packed."""
    return b"".join([_ID.pack(block_id), header, _LENGTH.pack(len(ids)), ids, hints])


def read_fetched(data: bytes, hint_bytes: int) -> list[FetchedBlock]:
    """Reads fetched blocks, each with hints of this length. Raises `InvalidFrames`."""
    position, blocks = 0, list[FetchedBlock]()
    while position < len(data):
        (block_id,) = _unpacked(_ID, data, position)
        header = _taken(data, position + _ID.size, HEADER_BYTES)
        position += _ID.size + HEADER_BYTES
        (length,) = _unpacked(_LENGTH, data, position)
        chunk_ids = unpacked_ids(_taken(data, position + _LENGTH.size, length))
        position += _LENGTH.size + length
        hints = _taken(data, position, hint_bytes)
        position += hint_bytes
        blocks.append(FetchedBlock(block_id, header, hints, chunk_ids))
    return blocks


def packed_ids(chunk_ids: Sequence[int]) -> bytes:
    """Returns ascending ids as their differences, the first from 0, in LEB128."""
    out, before = bytearray(), 0
    for chunk_id in chunk_ids:
        left, before = chunk_id - before, chunk_id
        while left > 0x7F:
            out.append(0x80 | (left & 0x7F))
            left >>= 7
        out.append(left)
    return bytes(out)


def unpacked_ids(data: bytes) -> NDArray[np.int64]:
    """Reverses `packed_ids`. Raises `InvalidFrames` unless there are at most 1,024 ascending ids."""
    octets = np.frombuffer(data, dtype=np.uint8)
    last = np.flatnonzero(octets < 0x80)
    if not len(last) or last[-1] != len(octets) - 1:
        raise InvalidFrames("the ids of a block are cut off, or missing")
    first = np.concatenate([[0], last[:-1] + 1])
    lengths = last - first + 1
    if len(last) > BLOCK_ROWS or lengths.max() > _MAX_ID_OCTETS:
        raise InvalidFrames("the ids of a block are too many, or too large")
    shifts = 7 * (np.arange(len(octets)) - np.repeat(first, lengths))
    differences = np.add.reduceat((octets & 0x7F).astype(np.uint64) << shifts.astype(np.uint64), first)
    ids = np.cumsum(differences, dtype=np.uint64)
    # A difference has 63 bits at most, so a sum that overflows is smaller than the one before.
    if not differences.all() or (ids[1:] < ids[:-1]).any() or ids.max() > MAX_CHUNK_ID:
        raise InvalidFrames("the ids of a block are not ascending, or too large")
    return ids.astype(np.int64)


def _unpacked(form: struct.Struct, data: bytes | memoryview, position: int) -> tuple[Any, ...]:
    try:
        return form.unpack_from(data, position)
    except struct.error:
        raise InvalidFrames(_CUT_OFF) from None


def _taken(data: _Data, position: int, size: int) -> _Data:
    taken = data[position : position + size]
    if len(taken) < size:
        raise InvalidFrames(_CUT_OFF)
    return taken
