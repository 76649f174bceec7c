"""The MessagePack answer of a search: what `msgspec` reads of it is read in any pieces, and nothing is believed."""

import struct
import tracemalloc
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from xtrace_core import wire
from xtrace_core.limits import MAX_BLOCK_BYTES, MAX_BLOCK_ROWS, MAX_CIPHERTEXT_BYTES, MAX_CIPHERTEXTS, MAX_ROWS
from xtrace_sdk.errors import InvalidAnswer
from xtrace_sdk.service.packed_rows import PackedRowReader, row_blocks

ids = st.integers(0, 200) | st.integers(0, 2**63 - 1)
nonces = st.none() | st.binary(max_size=32)
ciphertexts = st.sampled_from([b"", b"\1", b"\xc4\x91", bytes(31), bytes(255), b"\x92" * 256, b"\xff" * 300])


@st.composite
def answers(draw: st.DrawFn) -> list[list[Any]]:
    """Rows with the same number of ciphertexts each, some without their third element."""
    count = draw(st.sampled_from([1, 2, 16, 17]))
    rows: list[list[Any]] = []
    for _ in range(draw(st.integers(0, 6))):
        row = [draw(st.lists(ciphertexts, min_size=count, max_size=count)), draw(ids)]
        rows.append([*row, draw(nonces)] if draw(st.booleans()) else row)
    return rows


def read(data: bytes, piece: int = 1 << 20) -> list[wire.SearchRow]:
    reader = PackedRowReader()
    rows = [row for at in range(0, len(data), piece) for row in reader.rows(data[at : at + piece])]
    return [*rows, *reader.last_rows()]


@given(answers(), st.integers(1, 500))
def test_what_msgspec_reads_is_read_in_pieces_of_any_size(rows: list[list[Any]], piece: int) -> None:
    data = msgspec.msgpack.encode(rows)
    assert read(data, piece) == msgspec.msgpack.decode(data, type=list[wire.SearchRow])


def test_rows_come_before_the_answer_is_over() -> None:
    data = msgspec.msgpack.encode([[[bytes([i % 256] * 512)], i, bytes(14)] for i in range(1, 1001)])
    reader = PackedRowReader()
    early = [len(reader.rows(data[at : at + 10_000])) for at in range(0, len(data), 10_000)]
    assert sum(early) + len(reader.last_rows()) == 1000
    assert sum(early) > 800


@pytest.mark.parametrize("first", range(0xCC, 0xD4))
def test_integers_in_every_form_are_understood(first: int) -> None:
    """Unsigned ones of 1, 2, 4 and 8 bytes, then signed ones."""
    integer = bytes([first]) + (7).to_bytes(1 << (first & 3), "big")
    assert read(b"\x91\x92\x91\xc4\x01a" + integer) == [wire.SearchRow([b"a"], 7)]


def test_lengths_in_every_form_are_understood() -> None:
    for array in (b"\x91", b"\xdc\x00\x01", b"\xdd\x00\x00\x00\x01"):
        for binary in (b"\xc4\x01", b"\xc5\x00\x01", b"\xc6\x00\x00\x00\x01"):
            assert read(array + b"\x92" + array + binary + b"a\x07") == [wire.SearchRow([b"a"], 7)]


@given(answers().filter(len), st.data())
def test_an_answer_that_was_cut_off_or_goes_on_is_refused(rows: list[list[Any]], data: st.DataObject) -> None:
    whole = msgspec.msgpack.encode(rows)
    with pytest.raises(InvalidAnswer, match="cut off"):
        read(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(InvalidAnswer, match="continues after"):
        read(whole + b"\xc0")


def u32(value: int) -> bytes:
    return struct.pack(">I", value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\xdd" + u32(2**32 - 1), "rows"),
        (b"\xdd" + u32(MAX_ROWS + 1), "rows"),
        (b"\x91\x92\xdd" + u32(2**32 - 1), "ciphertexts of a row"),
        (b"\x91\x92\xdc" + struct.pack(">H", MAX_CIPHERTEXTS + 1), "ciphertexts of a row"),
        (b"\x91\x92\x91\xc6" + u32(2**32 - 1), "a ciphertext of"),
        (b"\x91\x92\x91\xc5" + struct.pack(">H", MAX_CIPHERTEXT_BYTES + 1), "a ciphertext of"),
        (b"\x91\x93\x91\xc4\x01a\x07\xc4\x21", "a nonce of 33 bytes"),
        (b"\x91\x93\x91\xc4\x01a\x07\xc6" + u32(300), "a nonce of 300 bytes"),
        (b"\x91\x94", "elements of a row"),
        (b"\x91\x91", "lacks"),
        (b"\x91\x92\x90\x07", "not have ciphertexts"),
        (b"\x91\x92\x91\xa1a\x07", "the bytes of"),
        (b"\x91\x92\x91\xc4\x01a\xff", "chunk id"),
        (b"\x91\x92\x91\xc4\x01a\xd0\xff", "chunk id"),
        (b"\x91\x92\x91\xc4\x01a\xcf" + b"\xff" * 8, "chunk id"),
        (b"\x91\x92\x91\xc4\x01a\xc3", "chunk id"),
        (b"\x92\x92\x91\xc4\x01a\x07\x92\x92\xc4\x01a\xc4\x01b\x08", "same number"),
        (b"\x81\xa1a\x01", "array of rows"),
        (b"\xc1", "array of rows"),
    ],
)
def test_what_no_answer_has_is_refused_as_soon_as_it_is_announced(data: bytes, words: str) -> None:
    with pytest.raises(InvalidAnswer, match=words):
        list(PackedRowReader().feed(data))


@given(st.binary(max_size=200))
@example(b"\x90")
@example(b"")
def test_of_arbitrary_bytes_nothing_else_comes_than_a_refusal(data: bytes) -> None:
    if data == b"\x90":
        assert read(data) == []
        return
    with pytest.raises(InvalidAnswer):
        read(data)


def test_blocks_hold_the_rows_and_are_bounded() -> None:
    rows = [wire.SearchRow([b"\1"], i, bytes(i % 3) or None) for i in range(10_000)]
    blocks = list(row_blocks(rows))
    assert [len(block) for block in blocks] == [MAX_BLOCK_ROWS, MAX_BLOCK_ROWS, 10_000 - 2 * MAX_BLOCK_ROWS]
    assert [i for block in blocks for i in block.chunk_ids.tolist()] == list(range(10_000))
    assert blocks[0].nonce_lengths[:4].tolist() == [0, 1, 2, 0]
    # One long ciphertext pads all others.
    rows[5].ciphertexts = [b"\1" * MAX_CIPHERTEXT_BYTES]
    padded = list(row_blocks(rows))
    assert max(block.ciphertexts.nbytes for block in padded) <= MAX_BLOCK_BYTES
    assert np.concatenate([block.ciphertexts[:, 0, 0] for block in padded]).tolist() == [1] * 10_000
    assert list(row_blocks([])) == []
    assert next(row_blocks([wire.SearchRow([b""], 1)])).ciphertexts.shape == (1, 1, 1)


def test_one_long_ciphertext_among_many_short_ones_takes_little_memory() -> None:
    """As it was seen: 3 MB that were padded to some 200 GB."""
    count = 100_000
    rows: list[Any] = [[[b"\1"], i, None] for i in range(count)]
    rows[0][0] = [b"\1" * MAX_CIPHERTEXT_BYTES]
    data = msgspec.msgpack.encode(rows)
    reader = PackedRowReader()
    tracemalloc.start()
    try:
        read_rows = sum(
            len(block) for at in range(0, len(data), 65_536) for block in reader.feed(data[at : at + 65_536])
        )
        read_rows += sum(map(len, reader.close()))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert read_rows == count
    assert peak < 8 * MAX_BLOCK_BYTES
