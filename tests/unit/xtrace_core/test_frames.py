"""The framed search answer: what is written is read back, in any pieces, and nothing else is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from xtrace_core import frames
from xtrace_core.frames import FrameReader, InvalidFrames, RowBlock


def stream(
    sizes: list[int], count: int = 2, width: int = 8, nonces: list[bytes | None] | None = None
) -> tuple[bytes, list[int], NDArray[np.uint8]]:
    """A stream of blocks of these sizes, with its ids and its ciphertexts."""
    total = sum(sizes)
    ids = np.cumsum(np.arange(total, dtype=np.int64) % 5 + 1)
    rows = np.random.default_rng(total).integers(0, 256, (total, count, width), dtype=np.uint8)
    cycle = nonces or [bytes(range(14))]
    parts, start = [frames.head(count, width, total)], 0
    for size in sizes:
        some = slice(start, start + size)
        parts.append(frames.block(ids[some], rows[some], [cycle[i % len(cycle)] for i in range(size)]))
        start += size
    return b"".join([*parts, frames.end()]), ids.tolist(), rows


def read(data: bytes, piece: int = 1 << 20) -> list[RowBlock]:
    reader = FrameReader()
    blocks = [block for i in range(0, len(data), piece) for block in reader.feed(data[i : i + piece])]
    reader.close()
    return blocks


@given(sizes=st.lists(st.integers(1, 9), max_size=5), piece=st.integers(1, 500))
def test_what_is_written_is_read_back_in_pieces_of_any_size(sizes: list[int], piece: int) -> None:
    data, ids, rows = stream(sizes)
    blocks = read(data, piece)
    assert [len(block) for block in blocks] == sizes
    assert [chunk_id for block in blocks for chunk_id in block.chunk_ids.tolist()] == ids
    if sizes:
        assert np.array_equal(np.concatenate([block.ciphertexts for block in blocks]), rows)


def test_rows_may_have_nonces_of_any_length_and_none() -> None:
    data, _, _ = stream([4], nonces=[b"", b"abc", None, bytes(32)])
    (block,) = read(data)
    assert block.nonce_lengths.tolist() == [0, 3, 0, 32]
    assert block.nonces[1].tobytes() == b"abc".ljust(32, b"\0")
    assert read(stream([2], nonces=[None])[0])[0].nonces.shape == (2, 0)


def test_a_row_of_a_2048_bit_key_takes_its_512_bytes_and_at_most_48_more() -> None:
    data, _, _ = stream([512] * 4, count=1, width=512)
    assert len(data) / 2048 <= 512 + 24


def test_every_stream_that_was_cut_off_is_refused() -> None:
    data, _, _ = stream([3, 2])
    for length in range(len(data)):
        with pytest.raises(InvalidFrames, match="cut off"):
            read(data[:length])


@pytest.mark.parametrize(
    ("position", "value", "complaint"),
    [
        (0, b"Y", "begin"),
        (12, b"\x04", "are left"),
        (12, b"\x06", "announced 6 rows and has 5"),
        (4, b"\xff\xff", "no scheme"),
        (20, b"\xff\xff", "are left"),
        (24, b"\xff", "nonces of 255"),
    ],
)
def test_a_stream_with_wrong_numbers_is_refused(position: int, value: bytes, complaint: str) -> None:
    data = bytearray(stream([3, 2])[0])
    data[position : position + len(value)] = value
    with pytest.raises(InvalidFrames, match=complaint):
        read(bytes(data))


def test_blocks_out_of_order_twice_or_after_the_end_are_refused() -> None:
    first = frames.block(np.array([1, 2]), np.zeros((2, 8), np.uint8), [None, None])
    second = frames.block(np.array([3, 4]), np.zeros((2, 8), np.uint8), [None, None])
    begin = frames.head(1, 8, 4)
    assert len(read(begin + first + second + frames.end())) == 2
    for wrong in (second + first, first + first):
        with pytest.raises(InvalidFrames, match="ascending"):
            read(begin + wrong + frames.end())
    with pytest.raises(InvalidFrames, match="announced 4 rows and has 2"):
        read(begin + first + frames.end())
    with pytest.raises(InvalidFrames, match="after its end"):
        read(begin + first + second + frames.end() + b"x")
    for ids in ([2, 1], [1, 1], [-5, 1]):
        with pytest.raises(InvalidFrames, match="ascending"):
            read(frames.head(1, 8, 2) + frames.block(np.array(ids), np.zeros((2, 8), np.uint8), [None] * 2))


def test_a_nonce_longer_than_its_column_is_refused() -> None:
    data = bytearray(stream([1], nonces=[b"abc"])[0])
    lengths_at = 20 + 5 + 8
    assert data[lengths_at] == 3
    data[lengths_at] = 4
    with pytest.raises(InvalidFrames, match="longer"):
        read(bytes(data))


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused_and_nothing_else_happens(data: bytes) -> None:
    with pytest.raises(InvalidFrames):
        read(data)
    with pytest.raises(InvalidFrames):
        read(frames.head(1, 8, 1000) + data)
