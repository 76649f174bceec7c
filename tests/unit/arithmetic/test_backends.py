"""Every backend of the arithmetic against plain Python integers, at the edges and at random.

`BACKENDS` are all that this machine can run, each with one thread, with three, and in constant time. Row counts go
around the block sizes of vectorised backends, widths are odd and even, and values sit where carries and reductions go
wrong.
"""

import json
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from xtrace_core.arithmetic import Arithmetic, Rows, arithmetic, as_rows, row_width, set_constant_time
from xtrace_core.arithmetic.backends import backends
from xtrace_core.arithmetic.portable import PortableArithmetic
from xtrace_core.schemes.registry import SchemeRegistry
from xtrace_sdk.x_vec.schemes.paillier.lookup import PaillierLookupClient

BACKENDS: dict[str, Arithmetic] = backends(threads=1)
BACKENDS |= {f"{name}, 3 threads": one for name, one in backends(threads=3).items() if name != "portable"}
BACKENDS |= {f"{name}, constant time": one for name, one in backends(threads=1, constant_time=True).items()}

COUNTS = (0, 1, 2, 7, 8, 9, 17)
ODD_MODULI = (
    3,
    255,
    257,
    (1 << 61) - 1,
    (1 << 64) - 59,
    (1 << 64) + 13,
    (1 << 127) - 1,
    3**160,  # 254 bits
    (1 << 512) - 569,
    (1 << 521) - 1,
    (1 << 1024) - 105,
    (1 << 2047) + 1,
    (1 << 2048) - 1,
)
MODULI = (1, 2, 256, 1 << 64, (1 << 512) - 2, *ODD_MODULI)


@pytest.fixture(params=sorted(BACKENDS))
def backend(request: pytest.FixtureRequest) -> Arithmetic:
    return BACKENDS[request.param]


def numbers(rows: Rows) -> list[int]:
    return [int.from_bytes(row.tobytes(), "little") for row in rows]


def values(count: int, width: int, modulus: int, seed: int) -> list[int]:
    """`count` integers of at most `width` bytes: the edges around the modulus and the width, then random ones."""
    top = 256**width
    edges = (0, 1, 2, modulus - 1, modulus, modulus + 1, 2 * modulus - 1, modulus // 2, top - 1, top // 2)
    fitting = [edge for edge in edges if 0 <= edge < top]
    rng = random.Random(seed)
    rng.shuffle(fitting)
    return (fitting + [rng.randrange(top) for _ in range(count)])[:count]


def widths(modulus: int) -> Iterator[int]:
    """Narrower than the modulus, as wide, a little wider (odd), and twice as wide."""
    own = row_width(modulus)
    yield from sorted({max(1, own - 1), own, own + 1, own + 3, 2 * own})


def expect(rows: Rows, expected: list[int], width: int) -> None:
    assert rows.shape == (len(expected), width)
    assert rows.dtype == np.uint8
    assert rows.flags.c_contiguous
    assert numbers(rows) == expected


def test_the_backend_in_use_is_one_of_those_tested_here() -> None:
    assert arithmetic.name in BACKENDS


def test_row_width_is_that_of_the_modulus_in_bytes() -> None:
    assert [row_width(m) for m in (1, 255, 256, 65535, 65536, 1 << 2047)] == [1, 1, 2, 2, 3, 256]


def test_as_rows_is_little_endian_padded_and_refuses_what_does_not_fit() -> None:
    assert as_rows([0x010203, 0, 255], 4).tolist() == [[3, 2, 1, 0], [0, 0, 0, 0], [255, 0, 0, 0]]
    assert as_rows([], 5).shape == (0, 5)
    for unfit in (256, -1):
        with pytest.raises(OverflowError):
            as_rows([unfit], 1)


@pytest.mark.parametrize("modulus", MODULI, ids=int.bit_length)
def test_multiply_reduces_each_product(backend: Arithmetic, modulus: int) -> None:
    for width in widths(modulus):
        for count in COUNTS:
            xs = values(count, width, modulus, seed=count)
            for factor in (0, 1, 2, modulus - 1, modulus, modulus + 1, 7**200):
                for plus in (0, 1, modulus - 1, modulus, modulus + 5):
                    expected = [(x * factor + plus) % modulus for x in xs]
                    got = backend.multiply(as_rows(xs, width), factor, modulus, plus=plus)
                    expect(got, expected, row_width(modulus))
                    got = backend.multiplier(factor, modulus, plus=plus)(as_rows(xs, width))
                    expect(got, expected, row_width(modulus))


@pytest.mark.parametrize("modulus", MODULI, ids=int.bit_length)
def test_multiply_pairs_takes_rows_of_different_widths(backend: Arithmetic, modulus: int) -> None:
    for left_width in widths(modulus):
        for right_width in (1, row_width(modulus)):
            for count in COUNTS:
                left = values(count, left_width, modulus, seed=1)
                right = values(count, right_width, modulus, seed=2)
                got = backend.multiply_pairs(as_rows(left, left_width), as_rows(right, right_width), modulus)
                expect(got, [x * y % modulus for x, y in zip(left, right, strict=True)], row_width(modulus))


def test_multiply_pairs_refuses_different_numbers_of_rows(backend: Arithmetic) -> None:
    with pytest.raises(ValueError, match=r"."):
        backend.multiply_pairs(as_rows([1, 2], 3), as_rows([1], 3), 101)


@pytest.mark.parametrize("divisor", MODULI, ids=int.bit_length)
def test_divide_gives_quotient_and_remainder(backend: Arithmetic, divisor: int) -> None:
    for width in widths(divisor):
        for count in COUNTS:
            xs = values(count, width, divisor, seed=count)
            quotients, remainders = backend.divide(as_rows(xs, width), divisor)
            expect(quotients, [x // divisor for x in xs], width)
            expect(remainders, [x % divisor for x in xs], row_width(divisor))


@pytest.mark.parametrize("modulus", ODD_MODULI, ids=int.bit_length)
def test_power_with_one_exponent_for_all_rows(backend: Arithmetic, modulus: int) -> None:
    for width in widths(modulus):
        for count in (0, 1, 9):
            xs = values(count, width, modulus, seed=count)
            for exponent in (0, 1, 2, 3, 65537, (1 << 130) + 1):
                got = backend.power(as_rows(xs, width), exponent, modulus)
                expect(got, [pow(x, exponent, modulus) for x in xs], row_width(modulus))


@pytest.mark.parametrize("modulus", ODD_MODULI, ids=int.bit_length)
@pytest.mark.parametrize("exponent_bytes", [1, 2, 3, 28, 33])
def test_fixed_base_power_equals_exponentiation(backend: Arithmetic, modulus: int, exponent_bytes: int) -> None:
    top = 256**exponent_bytes
    every_byte = int.from_bytes(bytes([1]) * exponent_bytes, "little")
    rng = random.Random(exponent_bytes)
    for base in (2, modulus - 1, modulus + 2, 0):
        table = backend.fixed_base_table(base, exponent_bytes, modulus)
        assert (table.exponent_bytes, table.modulus) == (exponent_bytes, modulus)
        exponents = [0, 1, 255, top - 1, top // 2, every_byte, *(rng.randrange(top) for _ in range(5))]
        got = backend.fixed_base_power(table, as_rows(exponents, exponent_bytes))
        expect(got, [pow(base, exponent, modulus) for exponent in exponents], row_width(modulus))


def test_every_entry_of_a_fixed_base_table_is_right(backend: Arithmetic) -> None:
    base, modulus, exponent_bytes = 3**50, (1 << 127) - 1, 4
    table = backend.fixed_base_table(base, exponent_bytes, modulus)
    exponents = [byte << 8 * window for window in range(exponent_bytes) for byte in range(256)]
    got = backend.fixed_base_power(table, as_rows(exponents, exponent_bytes))
    assert numbers(got) == [pow(base, exponent, modulus) for exponent in exponents]


def test_fixed_base_power_of_no_exponents_is_no_rows(backend: Arithmetic) -> None:
    table = backend.fixed_base_table(5, 3, 1009)
    assert backend.fixed_base_power(table, as_rows([], 3)).shape == (0, 2)


def test_fixed_base_power_refuses_exponents_of_another_width(backend: Arithmetic) -> None:
    table = backend.fixed_base_table(5, 3, 1009)
    for width in (2, 4):
        with pytest.raises(ValueError, match="exponent"):
            backend.fixed_base_power(table, as_rows([1], width))


def test_fixed_base_power_refuses_a_table_that_it_did_not_make(backend: Arithmetic) -> None:
    class Foreign:
        exponent_bytes, modulus = 1, 7

    with pytest.raises(TypeError, match="table"):
        backend.fixed_base_power(Foreign(), as_rows([1], 1))


@pytest.mark.parametrize(
    ("modulus", "coprime"),
    [
        (3, 5),
        (256, 255),
        ((1 << 64) - 59, (1 << 64) + 13),
        ((1 << 127) - 1, (1 << 521) - 1),
        ((1 << 521) - 1, 3),
        ((1 << 512) - 569, (1 << 512) - 629),
        (((1 << 512) - 569) ** 2, ((1 << 521) - 1) ** 2),
    ],
    ids=int.bit_length,
)
def test_join_finds_the_one_integer_with_both_residues(backend: Arithmetic, modulus: int, coprime: int) -> None:
    product = modulus * coprime
    for count in COUNTS:
        xs = [x % product for x in values(count, row_width(product), product, seed=count)]
        residues = as_rows([x % modulus for x in xs], row_width(modulus))
        others = as_rows([x % coprime for x in xs], row_width(coprime))
        expect(backend.join(residues, modulus, others, coprime), xs, row_width(product))
        expect(backend.joiner(modulus, coprime)(residues, others), xs, row_width(product))


def test_join_reduces_residues_that_come_in_unreduced(backend: Arithmetic) -> None:
    # Found here: a residue above its modulus gave an integer above the product.
    modulus, coprime = 251, 241
    xs = list(range(0, modulus * coprime, 97))
    residues = as_rows([x % modulus + 250 * modulus for x in xs], 2)
    others = as_rows([x % coprime + 13 * coprime for x in xs], 2)
    expect(backend.join(residues, modulus, others, coprime), xs, row_width(modulus * coprime))
    expect(backend.joiner(modulus, coprime)(residues, others), xs, row_width(modulus * coprime))


def test_join_refuses_different_numbers_of_rows(backend: Arithmetic) -> None:
    with pytest.raises(ValueError, match=r"."):
        backend.join(as_rows([1, 2], 1), 3, as_rows([1], 1), 5)
    with pytest.raises(ValueError, match=r"."):
        backend.joiner(3, 5)(as_rows([1, 2], 1), as_rows([1], 1))


def test_arguments_are_not_changed(backend: Arithmetic) -> None:
    rows = as_rows([5, 250, 77], 2).copy()
    before = rows.copy()
    backend.multiply(rows, 3, 101, plus=4)
    backend.multiply_pairs(rows, rows, 101)
    backend.divide(rows, 7)
    backend.power(rows, 5, 101)
    backend.fixed_base_power(backend.fixed_base_table(2, 2, 101), rows)
    backend.join(rows, 103, rows, 101)
    assert np.array_equal(rows, before)


def test_rows_that_are_a_strided_view_or_not_writable_are_read_right(backend: Arithmetic) -> None:
    wide = np.arange(60, dtype=np.uint8).reshape(3, 20)
    view = wide[::2, 3:14]
    view.flags.writeable = False
    expect(backend.multiply(view, 3, 10**9 + 7), [x * 3 % (10**9 + 7) for x in numbers(view)], 4)
    quotients, _ = backend.divide(view, 1000)
    assert numbers(quotients) == [x // 1000 for x in numbers(view)]


class TestConstantTime:
    """What is computed is the same, as all tests above see; this is about what is read for it."""

    MODULUS = ((1 << 127) + 45) ** 2
    EXPONENTS = (0, 1, 255, 256, 65535)

    def check_powers(self, backend: Any, table: Any) -> None:
        powers = backend.fixed_base_power(table, as_rows([*self.EXPONENTS], 2))
        assert numbers(powers) == [pow(3, exponent, self.MODULUS) for exponent in self.EXPONENTS]

    @pytest.fixture(params=backends(threads=1))
    def backend(self, request: pytest.FixtureRequest) -> Any:
        return backends(threads=1)[request.param]

    def test_tables_that_are_there_already_are_made_anew(self, backend: Any) -> None:
        for first in (False, True):
            backend.constant_time = first
            table = backend.fixed_base_table(3, 2, self.MODULUS)
            for on in (not first, first):
                backend.constant_time = on
                self.check_powers(backend, table)

    def test_windows_of_four_bits_are_read_and_no_other_table_is_made(self, backend: Any) -> None:
        backend.constant_time = True
        table = backend.fixed_base_table(3, 2, self.MODULUS)
        self.check_powers(backend, table)
        if backend.name == "portable":
            assert table.windows == []
        else:
            words = -(-2 * backend.kernels.limbs_of_modulus(1 << 127) // 8) * 8
            assert {bits: len(entries) for bits, entries in table.entries.items()} == {4: 2 * 2 * 16 * words}

    def test_a_few_rows_take_no_shortcut(self, backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        if backend.name == "portable":
            return
        backend.constant_time = True
        for name in ("multiply", "join"):
            monkeypatch.setattr(PortableArithmetic, name, None)
        assert numbers(backend.multiply(as_rows([5, 250], 2), 3, 101)) == [15, 750 % 101]
        assert numbers(backend.join(as_rows([2], 1), 3, as_rows([4], 1), 5)) == [14]

    def test_a_key_that_was_made_before_reads_the_same(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(arithmetic, "constant_time", False)
        vectors = np.random.default_rng(1).integers(0, 2, (20, 16), dtype=np.uint8)
        client = PaillierLookupClient.generate(16, 256, insecure_allow_weak_parameters=True)
        distances = [int(np.count_nonzero(vectors[0] != one)) for one in vectors]
        for on in (False, True, False):
            set_constant_time(on)
            assert arithmetic.constant_time is on
            batch, query = client.encrypt_vec_batch(vectors), client.encrypt_query(vectors[0])
            evaluation = SchemeRegistry().evaluation(client.type, json.dumps(client.public_key()))
            answers = evaluation.evaluate(batch.rows[:, 0], [query.ciphertexts])
            assert client.decode_hamming_client_batch(answers[:, None], batch.nonces, query).tolist() == distances
