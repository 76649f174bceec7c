"""Answers about blocks: what is written is read again, and nothing else is."""

import numpy as np
import pytest

from xtrace_core import block_frames, frames
from xtrace_core.block_frames import FetchedBlock

EVERY_SLOT = np.arange(1024)
SOME_SLOTS = np.array([3, 7, 1023])
SIZES = {len(slots): block_frames.value_bytes(len(slots)) for slots in (EVERY_SLOT, SOME_SLOTS)}


def packed(count: int, slabs: int, queries: int) -> bytes:
    each = [bytes([i, s]) * (SIZES[count] // 2) for i in range(queries) for s in range(slabs)]
    return b"".join([one.ljust(SIZES[count], b"x") for one in each])


def records(count: int) -> bytes:
    ids, rows = np.arange(5, 5 + count), np.ones((count, 1, 32), dtype=np.uint8)
    body = frames.block(ids, rows, [b"n" * 16] * count) if count else b""
    return frames.head(1, 32, count) + body + frames.end()


def answer(slabs: int = 1, queries: int = 1, in_records: int = 2) -> bytes:
    return b"".join(
        [
            block_frames.head(slabs, queries, 2, 1024 + 3 + in_records, 99),
            block_frames.block(7, EVERY_SLOT, packed(1024, slabs, queries)),
            block_frames.block(9, SOME_SLOTS, packed(3, slabs, queries)),
            block_frames.end(),
            records(in_records),
        ]
    )


@pytest.mark.parametrize(("slabs", "queries", "in_records"), [(1, 1, 2), (3, 8, 0), (8, 2, 1)])
def test_an_answer_is_read_as_it_was_written(slabs: int, queries: int, in_records: int) -> None:
    read = block_frames.read_answer(answer(slabs, queries, in_records), slabs, queries)
    assert (read.revision, read.candidates) == (99, 1027 + in_records)
    assert [one.block_id for one in read.blocks] == [7, 9]
    assert [one.slots.tolist() for one in read.blocks] == [EVERY_SLOT.tolist(), SOME_SLOTS.tolist()]
    assert [one.values for one in read.blocks] == [packed(1024, slabs, queries), packed(3, slabs, queries)]
    assert [row for rows in read.records for row in rows.chunk_ids.tolist()] == list(range(5, 5 + in_records))


def test_a_value_takes_one_and_a_half_bytes_and_a_whole_block_has_no_bitmap() -> None:
    assert len(block_frames.block(7, EVERY_SLOT, packed(1024, 1, 1))) == 11 + 1536
    assert len(block_frames.block(9, SOME_SLOTS, packed(3, 1, 1))) == 11 + 128 + 5


def test_an_answer_that_is_cut_anywhere_is_no_answer() -> None:
    whole = answer()
    for length in [*range(60), *range(1570, len(whole))]:
        with pytest.raises(frames.InvalidFrames):
            block_frames.read_answer(whole[:length], 1, 1)
    with pytest.raises(frames.InvalidFrames, match="continues after its end"):
        block_frames.read_answer(whole + b"x", 1, 1)


@pytest.mark.parametrize(
    ("position", "value", "reason"),
    [
        (0, b"XTR1", "does not begin"),
        (4, b"\x08", "8 bits"),
        (5, b"\x02", "2 slabs"),
        (6, b"\x02", "2 values"),
        (7, b"\x01", "does not begin"),
        (8, b"\x03", "announced 3 different blocks"),
        (12, b"\xff" * 8, "more than"),
        (12, b"\0", "candidates"),
        (36, b"\0\0", "0 values"),
        (36, b"\x01\x04", "1025 values"),
        (38, b"\x02", "flag 2"),
        (28 + 11 + 1536, b"\x07", "announced 2 different blocks"),
        (28 + 11 + 1536 + 11, b"\xff", "3 values for"),
    ],
)
def test_an_answer_with_impossible_numbers_is_refused(position: int, value: bytes, reason: str) -> None:
    whole = answer()
    with pytest.raises(frames.InvalidFrames, match=reason):
        block_frames.read_answer(whole[:position] + value + whole[position + len(value) :], 1, 1)


def test_fetched_blocks_are_read_as_they_were_written() -> None:
    ids = [np.array([5, 6, 2**40, 2**63 - 1]), np.arange(10**12, 10**12 + 1024)]
    written = [FetchedBlock(i + 1, bytes([i]) * 112, bytes([i]) * 7680, chunk_ids) for i, chunk_ids in enumerate(ids)]
    data = b"".join(
        block_frames.fetched(one.block_id, one.header, block_frames.packed_ids(one.chunk_ids.tolist()), one.hints)
        for one in written
    )
    read = block_frames.read_fetched(data, 7680)
    assert [(one.block_id, one.header, one.hints) for one in read] == [
        (one.block_id, one.header, one.hints) for one in written
    ]
    assert [one.chunk_ids.tolist() for one in read] == [one.tolist() for one in ids]
    for length in (1, 50, 119, 121, 130, 5000, len(data) - 1):
        with pytest.raises(frames.InvalidFrames):
            block_frames.read_fetched(data[:length], 7680)


@pytest.mark.parametrize(
    "data", [b"", b"\x80", b"\x00", b"\x05\x00", b"\xff" * 9 + b"\x7f", b"\xff" * 12, b"\x01" * 1025]
)
def test_ids_that_do_not_ascend_or_are_too_large_or_too_many_are_refused(data: bytes) -> None:
    with pytest.raises(frames.InvalidFrames):
        block_frames.unpacked_ids(data)
