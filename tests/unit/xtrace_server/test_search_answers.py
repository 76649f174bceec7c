"""Answers that are written many rows at a time have the bytes that a plain encoder writes."""

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xtrace_server.http.search_answers import MessagePackAnswer

IDS = [*range(1, 4), 126, 127, 128, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**40]


def plain(ids: Sequence[int], rows: Sequence[bytes], nonces: Sequence[bytes | None], count: int) -> bytes:
    width = len(rows[0]) // count if rows else 0
    each = [[row[i * width : (i + 1) * width].rstrip(b"\0") for i in range(count)] for row in rows]
    return msgspec.msgpack.encode(list(zip(each, ids, nonces, strict=True)))


def written(ids: Sequence[int], rows: Sequence[bytes], nonces: Sequence[bytes | None], count: int) -> bytes:
    width = len(rows[0]) // count if rows else 6
    form = MessagePackAnswer(count, width)
    answers = np.frombuffer(b"".join(rows), dtype=np.uint8).reshape(len(rows), width * count)
    return form.head(len(rows)) + form.block(np.array(ids, dtype=np.int64), answers, nonces) + form.end()


@given(
    st.data(),
    st.integers(1, 3),
    st.sampled_from([1, 6, 255, 256, 512]),
    st.lists(st.sampled_from(IDS), max_size=20, unique=True).map(sorted),
)
def test_rows_are_written_as_a_plain_encoder_writes_them(
    data: st.DataObject, count: int, width: int, ids: list[int]
) -> None:
    ends = st.sampled_from([b"\0", b"\0\0", b"\1", b"\xff"])
    ciphertexts = st.tuples(st.binary(max_size=width), ends).map(lambda two: b"".join(two)[-width:].rjust(width, b"x"))
    rows = [b"".join(data.draw(st.lists(ciphertexts, min_size=count, max_size=count))) for _ in ids]
    nonces = [data.draw(st.sampled_from([None, b"", b"nonce", b"other", b"n" * 255, b"n" * 300])) for _ in ids]
    assert written(ids, rows, nonces, count) == plain(ids, rows, nonces, count)


@pytest.mark.parametrize("ciphertexts", [1, 15, 16, 40])
def test_many_ciphertexts_a_row(ciphertexts: int) -> None:
    rows = [bytes(range(1, 7)) * ciphertexts] * 5
    assert written(range(5), rows, [b"n"] * 5, ciphertexts) == plain(range(5), rows, [b"n"] * 5, ciphertexts)


def test_no_rows() -> None:
    assert written([], [], [], 1) == b"\x90"
