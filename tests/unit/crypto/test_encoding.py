"""Vectors as integers: the split over ciphertexts, both bases, and which sums are read as valid."""

import random

import numpy as np
import pytest

from support import reference_paillier as reference
from xtrace_core.arithmetic import as_rows
from xtrace_core.limits import MAX_EMBED_LEN
from xtrace_sdk.errors import InvalidArgument
from xtrace_sdk.x_vec.schemes.bits import differing
from xtrace_sdk.x_vec.schemes.paillier.encoding import VectorEncoding, choose_base


def encoding(embed_len: int, key_len: int) -> VectorEncoding:
    return VectorEncoding(embed_len, key_len, choose_base(embed_len, key_len))


def read(subject: VectorEncoding, total: int, width_bytes: int = 80) -> tuple[int, bool]:
    distances, valid = subject.distances([as_rows([total], width_bytes)])
    return int(distances[0]), bool(valid[0])


@pytest.mark.parametrize("key_len", [256, 320, 512, 1024, 1536, 2048, 4096])
def test_every_length_splits_as_the_format_says(key_len: int) -> None:
    for embed_len in range(1, MAX_EMBED_LEN + 1):
        base = choose_base(embed_len, key_len)
        subject = VectorEncoding(embed_len, key_len, base)
        assert subject.widths == [len(part) for part in reference.parts([0] * embed_len, key_len, base)]
        if base == "base4":
            assert subject.count == -(-embed_len // (key_len - 1))
            assert max(subject.widths) <= key_len - 1


@pytest.mark.parametrize("key_len", [256, 1024, 1536])
def test_base_3_is_chosen_exactly_where_it_saves_a_ciphertext_and_fits(key_len: int) -> None:
    chosen = [d for d in range(1, 2 * key_len) if choose_base(d, key_len) == "base3"]
    assert chosen == [d for d in range(1, 2 * key_len) if reference.base_for(d, key_len) == "base3"]
    assert chosen == list(range(key_len, chosen[-1] + 1))


def test_base_3_serves_1024_to_1291_dimensions_at_key_len_1024() -> None:
    bases = {d: choose_base(d, 1024) for d in (1023, 1024, 1291, 1292)}
    assert bases == {1023: "base4", 1024: "base3", 1291: "base3", 1292: "base4"}


@pytest.mark.parametrize("embed_len", [0, -1, 4097, 10**12])
def test_lengths_outside_1_to_4096_are_refused_at_once(embed_len: int) -> None:
    # Found here: choosing the base for 10^12 positions computed 3^(10^12) first.
    with pytest.raises(InvalidArgument, match="4096"):
        encoding(embed_len, 1024)


def test_base_3_is_refused_where_it_does_not_fit() -> None:
    for embed_len in (255, 324, 512):
        with pytest.raises(InvalidArgument, match="base 3"):
            VectorEncoding(embed_len, 256, "base3")


def test_unknown_base_is_refused() -> None:
    # Found here: any name but base3 was taken for base4.
    with pytest.raises(InvalidArgument, match="base4 or base3"):
        VectorEncoding(8, 256, "base5")  # type: ignore[arg-type]


@pytest.mark.parametrize("embed_len", [1, 3, 4, 5, 127, 128, 255, 256, 300, 322, 323, 512, 600, 4096])
def test_messages_are_those_of_the_reference(embed_len: int) -> None:
    subject = encoding(embed_len, 256)
    rng = random.Random(embed_len)
    vectors = [[0] * embed_len, [1] * embed_len, *([rng.randrange(2) for _ in range(embed_len)] for _ in range(3))]
    columns = subject.encode(np.array(vectors, dtype=np.uint8))
    for i, vector in enumerate(vectors):
        got = [int.from_bytes(rows[i].tobytes(), "little") for rows in columns]
        assert got == reference.messages(vector, 256, subject.base)


def test_first_position_is_the_most_significant() -> None:
    rows = encoding(3, 256).encode(np.array([[1, 0, 0], [0, 0, 1]], dtype=np.uint8))[0]
    assert rows.tolist() == [[16], [1]]


@pytest.mark.parametrize("embed_len", [1, 2, 3, 4, 5])
def test_short_base_4_sums_are_valid_exactly_if_two_vectors_have_them(embed_len: int) -> None:
    subject = encoding(embed_len, 256)
    for total in range(4 ** (embed_len + 1) + 300):
        distance, valid = read(subject, total)
        assert valid == reference.is_sum_of_two(total, embed_len, "base4")
        if valid:
            assert distance == reference.distance([total], "base4")


@pytest.mark.parametrize("embed_len", [127, 128, 129, 255])
def test_base_4_refuses_a_3_anywhere_and_any_bit_above(embed_len: int) -> None:
    subject = encoding(embed_len, 256)
    honest = 2 * (4**embed_len - 1) // 3
    assert read(subject, honest) == (0, True)
    for position in range(embed_len):
        assert not read(subject, honest + 4**position)[1]
        assert not read(subject, 3 * 4**position)[1]
    for bit in range(2 * embed_len, 640):
        assert not read(subject, 1 << bit)[1]


def test_base_3_is_bounded_by_its_digits() -> None:
    subject = encoding(300, 256)
    assert subject.base == "base3"
    assert read(subject, 3**300 - 1) == (0, True)
    assert read(subject, (3**300 - 1) // 2) == (300, True)
    assert not read(subject, 3**300)[1]
    assert not read(subject, 2**640 - 1)[1]


def test_one_bad_ciphertext_makes_the_whole_row_invalid_and_no_other() -> None:
    subject = encoding(600, 256)
    good, bad = as_rows([0, 0, 0], 64), as_rows([0, 3, 0], 64)
    for place in range(3):
        sums = [good, good, good]
        sums[place] = bad
        assert subject.distances(sums)[1].tolist() == [True, False, True]


def test_no_rows_give_no_distances() -> None:
    for embed_len in (6, 300, 600):
        subject = encoding(embed_len, 256)
        columns = subject.encode(np.empty((0, embed_len), dtype=np.uint8))
        distances, valid = subject.distances(columns)
        assert (len(distances), len(valid)) == (0, 0)


@pytest.mark.parametrize("embed_len", [1, 128, 255, 300, 600])
def test_largest_sum_is_that_of_all_ones_with_all_ones(embed_len: int) -> None:
    subject = encoding(embed_len, 256)
    ones = reference.messages([1] * embed_len, 256, subject.base)
    largest = 3**embed_len - 1 if subject.base == "base3" else 2 * max(ones)
    assert subject.largest_sum() == largest
    assert 2 * max(ones) == largest


def totals_for(vector: int, query: int, width: int, base: int, rng: random.Random) -> list[int]:
    """Sums of which the vector is left, and sums beside them."""
    total, place = vector + query, base ** rng.randrange(width)
    moved = [total + step * place for step in (-2, -1, 1, 2)]
    beyond = [total + base**width, total + (1 << 8 * 79), total + base**width * 3]
    return [total, query, *moved, *beyond, rng.randrange(base**width), 0]


@pytest.mark.parametrize("with_query", [True, False])
@pytest.mark.parametrize("embed_len", [1, 4, 5, 31, 32, 33, 64, 100, 128, 255, 300, 512, 600])
def test_vectors_are_what_integers_say_without_the_query(embed_len: int, with_query: bool) -> None:
    subject, rng, width_bytes = encoding(embed_len, 256), random.Random(embed_len), 80
    base = 3 if subject.base == "base3" else 4
    bits = np.array([[rng.randrange(2) for _ in range(embed_len)] for _ in range(6)], dtype=np.uint8)
    asked = bits[:1] if with_query else np.zeros((1, embed_len), dtype=np.uint8)
    queries = reference.messages(asked[0].tolist(), 256, subject.base)
    columns: list[list[int]] = [[] for _ in subject.widths]
    for row in bits:
        messages = reference.messages(row.tolist(), 256, subject.base)
        parts = zip(messages, queries, subject.widths, strict=True)
        choices = [totals_for(m, q, width, base, rng) for m, q, width in parts]
        for i in range(len(choices[0])):
            # Each ciphertext in turn has the odd sum, and all have it.
            for odd in range(-1, subject.count):
                for t, column in enumerate(columns):
                    column.append(max(0, choices[t][i if odd in (-1, t) else 0]))
    sums = [as_rows(column, width_bytes) for column in columns]
    packed, valid = subject.vectors(sums, subject.encode(asked) if with_query else None)
    expected = []
    for row_totals in zip(*columns, strict=True):
        digits = [reference.digits_of(max(0, a - q), base) for a, q in zip(row_totals, queries, strict=True)]
        fits = all(a >= q for a, q in zip(row_totals, queries, strict=True))
        fits &= all(len(one) <= w and max(one, default=0) <= 1 for one, w in zip(digits, subject.widths, strict=True))
        expected.append(fits)
    assert valid.tolist() == expected
    assert {True, False} == set(expected)
    left = subject.unpack(packed)
    for i in np.flatnonzero(valid).tolist():
        messages = [column[i] - q for column, q in zip(columns, queries, strict=True)]
        assert reference.messages(left[i].tolist(), 256, subject.base) == messages
        assert packed[i].tobytes() == reference.packed(left[i].tolist(), 256, subject.base)
    distances = differing(packed[valid], subject.pack(asked))
    assert distances.tolist() == (left[valid] != asked).sum(axis=1).tolist()
