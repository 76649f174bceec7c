"""The compiled kernels against the portable backend, at boundary values and random ones, and against wrong arguments.

Rows hold the period-251 pattern too: a block of rows taken twice or exchanged with another shows.
"""

import random
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from support.crypto_support import first_prime_from
from support.missing_tools import needs
from xtrace_core.arithmetic import Rows, as_rows, row_width
from xtrace_core.arithmetic.backends import backends, why_not_compiled
from xtrace_core.arithmetic.portable import PortableArithmetic

COMPILED: dict[str, Any] = {name: one for name, one in backends(threads=1).items() if name != "portable"}
MODES: dict[str, Any] = dict(COMPILED)
MODES |= {f"{name}, constant time": backends(threads=1, constant_time=True)[name] for name in COMPILED}
PORTABLE = PortableArithmetic()
KEY_LENS = (256, 1024, 1280, 1536, 2048, 3072)

pytestmark = needs("the compiled module" if why_not_compiled() else "a processor with AVX2 or AVX-512 IFMA", COMPILED)


@pytest.fixture(params=sorted(COMPILED) or ["none"])
def compiled(request: pytest.FixtureRequest) -> Any:
    return COMPILED[request.param]


@pytest.fixture(params=sorted(MODES) or ["none"])
def either(request: pytest.FixtureRequest) -> Any:
    """The same kernels, with indexed tables and in constant time."""
    return MODES[request.param]


@cache
def primes(key_len: int) -> tuple[int, int]:
    """Two primes of that length, one from the lower end of those that keys have and one from the upper."""
    rng = random.Random(key_len)
    low, high = 3 << (key_len - 2), (1 << key_len) - (1 << (key_len - 20))
    return first_prime_from(low + 1 + 2 * rng.getrandbits(key_len - 30)), first_prime_from(
        high + 1 + 2 * rng.getrandbits(key_len - 30)
    )


def pattern(count: int, width: int) -> Rows:
    return (np.arange(count * width) % 251).astype(np.uint8).reshape(count, width)


def mixed(count: int, width: int, edges: list[int], seed: int) -> Rows:
    """Edges that fit, then the pattern, then random rows."""
    rng = random.Random(seed)
    fitting = [edge for edge in edges if 0 <= edge < 256**width][:count]
    rows = [*as_rows(fitting, width), *pattern(5, width)]
    rows += [np.frombuffer(rng.randbytes(width), dtype=np.uint8) for _ in range(count)]
    return np.array(rows[:count], dtype=np.uint8).reshape(count, width)


@cache
def fixed(key_len: int, exponent_bytes: int) -> tuple[Any, dict[str, Any]]:
    p, _ = primes(key_len)
    base = p * 12345 + 6789
    tables = {name: one.fixed_base_table(base, exponent_bytes, p * p) for name, one in COMPILED.items()}
    return PORTABLE.fixed_base_table(base, exponent_bytes, p * p), tables


def numbers(rows: Rows) -> list[int]:
    return [int.from_bytes(row.tobytes(), "little") for row in rows]


def same(got: Any, expected: Any) -> None:
    for one, other in zip(got, expected, strict=True):
        assert one.dtype == other.dtype
        assert np.array_equal(one, other)


@pytest.mark.parametrize("key_len", KEY_LENS)
@pytest.mark.parametrize("count", [0, 1, 8, 19])
class TestPrimeSquare:
    def test_messages_under_a_fixed_base(self, either: Any, key_len: int, count: int) -> None:
        p, q = primes(key_len)
        table, tables = fixed(key_len, 3)
        exponents = mixed(count, 3, [0, 1, 255, 256, (1 << 24) - 1], seed=1)
        ours, reference = either.prime_square(p, q), PORTABLE.prime_square(p, q)
        for width in (1, key_len // 8, row_width(p * q)):
            messages = mixed(count, width, [0, 1, p - 1, p, p + 1, 256**width - 1], seed=2)
            got = ours.encrypt(messages, tables[either.name], exponents)
            assert np.array_equal(got, reference.encrypt(messages, table, exponents))

    def test_reading_under_a_fixed_base(self, either: Any, key_len: int, count: int) -> None:
        p, q = primes(key_len)
        table, tables = fixed(key_len, 3)
        ours, reference = either.prime_square(p, q), PORTABLE.prime_square(p, q)
        exponents = mixed(count, 3, [0, 0, 0, 0, 1, (1 << 24) - 1], seed=3)
        for width in (row_width(p * p), row_width(p * p * q * q)):
            edges = [1, 1 + p * q, 1 + p * (p - 1), p, 0, p * p, p * p + 1, 256**width - 1, p * p - 1]
            rows = mixed(count, width, edges, seed=4)
            same(ours.read(rows, tables[either.name], exponents), reference.read(rows, table, exponents))

    def test_what_was_encrypted_is_read(self, compiled: Any, key_len: int, count: int) -> None:
        p, q = primes(key_len)
        order, half = 65537 * 3, key_len // 8
        ours = compiled.prime_square(p, q)
        base = pow(7, p * (p - 1), p * p)
        table = compiled.fixed_base_table(base, 3, p * p)
        exponents = mixed(count, 3, [0, 1, order], seed=5)
        messages = mixed(count, half, [0, 1, p - 1, 256**half - 1], seed=6)
        read, valid = ours.read(ours.encrypt(messages, table, exponents), table, exponents)
        assert valid.all()
        assert np.array_equal(read, PORTABLE.multiply(messages, 1, p))

    def test_powers_with_a_shared_exponent(self, compiled: Any, key_len: int, count: int) -> None:
        p, q = primes(key_len)
        ours, reference = compiled.prime_square(p, q), PORTABLE.prime_square(p, q)
        exponents = [1, 15, 16, (1 << 64) + 17]
        if key_len <= 1024:
            exponents += [random.Random(7).getrandbits(256), p - 1]
        for width in (row_width(p), row_width(p * p * q * q)):
            rows = mixed(count, width, [0, 1, p, p - 1, p * p - 1, 256**width - 1], seed=8)
            messages = mixed(count, key_len // 8, [0, 1, p - 1, 256 ** (key_len // 8) - 1], seed=9)
            for exponent in exponents:
                got = ours.encrypt_power(messages, rows, exponent)
                assert np.array_equal(got, reference.encrypt_power(messages, rows, exponent))
                same(ours.read_power(rows, exponent), reference.read_power(rows, exponent))


@pytest.mark.parametrize("most", [False, True], ids=["fewest limbs", "most limbs"])
class TestBoundaries:
    """No row to a full group and one more, of numbers of the fewest limbs and the most."""

    @staticmethod
    def counts(compiled: Any) -> tuple[int, ...]:
        lanes = compiled.kernels.lanes
        return 0, 1, lanes - 1, lanes, lanes + 1

    @staticmethod
    def odd(compiled: Any, limbs: int) -> int:
        """A modulus of all the bits that so many limbs have for one: all but eight; not a prime."""
        bits: int = limbs * compiled.kernels.limb_bits - 8
        return (1 << bits) - 105

    def test_of_prime_squares(self, either: Any, most: bool) -> None:
        p = self.odd(either, either.kernels.max_half) if most else (1 << 127) + 45
        ours, reference = either.prime_square(p, 7), PORTABLE.prime_square(p, 7)
        table, expected_table = (one.fixed_base_table(p // 3, 1, p * p) for one in (either, PORTABLE))
        for count in self.counts(either):
            exponents = mixed(count, 1, [255, 0, 16, 15], seed=12)
            messages = mixed(count, row_width(p), [p - 1, 0, p], seed=13)
            rows = mixed(count, row_width(p * p), [1, p * p - 1, 0], seed=14)
            assert np.array_equal(
                ours.encrypt(messages, table, exponents), reference.encrypt(messages, expected_table, exponents)
            )
            same(ours.read(rows, table, exponents), reference.read(rows, expected_table, exponents))
            got = ours.encrypt_power(messages, rows, 0x10F)
            assert np.array_equal(got, reference.encrypt_power(messages, rows, 0x10F))
            same(ours.read_power(rows, 0x10F), reference.read_power(rows, 0x10F))

    def test_of_linear_maps(self, compiled: Any, most: bool) -> None:
        modulus = self.odd(compiled, compiled.kernels.max_limbs) if most else 3
        multiplier = compiled.multiplier(modulus // 3, modulus, plus=modulus - 2)
        for count in self.counts(compiled):
            rows = mixed(count, row_width(modulus) + 1, [modulus - 1, modulus, 0], seed=15)
            expected = PORTABLE.multiply(rows, modulus // 3, modulus, plus=modulus - 2)
            assert np.array_equal(multiplier(rows), expected)


@pytest.mark.parametrize("key_len", KEY_LENS)
def test_the_scan_and_the_join_of_real_sizes(compiled: Any, key_len: int) -> None:
    p, q = primes(key_len)
    modulus = (p * q) ** 2
    width = row_width(modulus)
    rows = mixed(150, width, [0, 1, modulus - 1, modulus, 256**width - 1], seed=10)
    for factor in (1, modulus - 1, random.Random(11).randrange(modulus)):
        assert np.array_equal(compiled.multiplier(factor, modulus)(rows), PORTABLE.multiply(rows, factor, modulus))
    left, right = rows[:, : row_width(p * p)], rows[:, -row_width(q * q) :]
    assert np.array_equal(compiled.joiner(p * p, q * q)(left, right), PORTABLE.join(left, p * p, right, q * q))


@pytest.mark.parametrize("count", [1, 15, 16, 63, 64, 65, 200, 1000])
def test_threads_take_every_row_once(compiled: Any, count: int) -> None:
    p, q = primes(256)
    many = backends(threads=5)[compiled.name]
    rows = pattern(count, 64)
    table, tables = fixed(256, 3)
    assert np.array_equal(many.multiplier(3, p * p)(rows), PORTABLE.multiply(rows, 3, p * p))
    ours, reference = many.prime_square(p, q), PORTABLE.prime_square(p, q)
    same(
        ours.read(rows, tables[compiled.name], np.ascontiguousarray(rows[:, :3])),
        reference.read(rows, table, np.ascontiguousarray(rows[:, :3])),
    )
    same(ours.read_power(rows, 77), reference.read_power(rows, 77))
    bits = rows & np.uint8(1)
    assert np.array_equal(many.encode_digits(bits), PORTABLE.encode_digits(bits))
    rows[:, 30:] = 0  # below 3^200
    same(many.count_digits(rows, 200), PORTABLE.count_digits(rows, 200))
    same(many.decode_digits(rows, 200), PORTABLE.decode_digits(rows, 200))


@pytest.mark.parametrize("width", [1, 2, 7, 8, 9, 16, 64, 127])
def test_below_at_the_bound(compiled: Any, width: int) -> None:
    top = 256**width
    for bound in (1, 2, top // 2 + 1, top - 1, top, top * 300):
        rows = mixed(20, width, [0, 1, bound - 1, bound, bound + 1, top - 1, top // 2], seed=width)
        assert np.array_equal(compiled.below(rows, bound), PORTABLE.below(rows, bound))


@pytest.mark.parametrize("positions", [1, 3, 4, 5, 31, 32, 33, 128, 511, 512, 513])
def test_slots_are_encoded_and_counted(compiled: Any, positions: int) -> None:
    rng = np.random.default_rng(positions)
    for count in (0, 1, 9):
        bits = rng.integers(0, 2, (count, positions), dtype=np.uint8)
        encoded = compiled.encode_slots(bits)
        assert np.array_equal(encoded, PORTABLE.encode_slots(bits))
        for width in (encoded.shape[1], encoded.shape[1] + 1, encoded.shape[1] + 9):
            sums = np.zeros((count, width), dtype=np.uint8)
            sums[:, : encoded.shape[1]] = encoded
            same(compiled.count_slots(sums, positions), PORTABLE.count_slots(sums, positions))
            for row in range(count):  # one bit too many: a pair that reads 3, or something above the top
                bit = int(rng.integers(0, 8 * width))
                sums[row, bit // 8] ^= 1 << bit % 8
            counts, valid = compiled.count_slots(sums, positions)
            expected, expected_valid = PORTABLE.count_slots(sums, positions)
            same((valid, counts[valid]), (expected_valid, expected[valid]))  # other counts mean nothing


DIGITS = (1, 2, 3, 19, 20, 21, 39, 40, 41, 79, 80, 81, 300, 1200, 1291, 4096, 5120)
"""Around the halves of chunks, chunks, and the longest that there are."""


def bytes_of_digits(positions: int) -> int:
    return row_width(3**positions)


@pytest.mark.parametrize("positions", DIGITS)
def test_digits_are_encoded(compiled: Any, positions: int) -> None:
    rng = np.random.default_rng(positions)
    for count in (0, 1, 3, 4, 5, 9):
        bits = rng.integers(0, 2, (count, positions), dtype=np.uint8)
        bits[:1], bits[1:2] = 0, 1
        assert np.array_equal(compiled.encode_digits(bits), PORTABLE.encode_digits(bits))


def test_rows_of_digits_are_as_wide_as_they_must_be_for_every_length(compiled: Any) -> None:
    for positions in range(1, 5121):  # the kernel computes the width itself and refuses another
        top = np.zeros((1, positions), dtype=np.uint8)
        top[0, 0] = 1
        assert numbers(compiled.encode_digits(top)) == [3 ** (positions - 1)]


@pytest.mark.parametrize("positions", DIGITS)
def test_digits_are_counted_and_decoded(compiled: Any, positions: int) -> None:
    top, own = 3**positions, bytes_of_digits(positions)
    edges = [0, 1, 2, top - 1, top, top + 1, top // 2, top // 2 + 1, top // 3, 2 * top // 3 - 1]
    chunk = 3**40  # quotients and remainders of the division by chunks at their ends
    edges += [chunk - 1, chunk, chunk + 1, (1 << 64) - 1, 1 << 64, chunk**2 - 1, (chunk - 1) << 64, top - chunk]
    for width in (own, own + 1, min(2 * own + 3, 1024)):
        for count in (0, 1, 3, 4, 5, 40):
            rows = mixed(count, width, [*edges, 256**width - 1], seed=positions)
            fitting = [int(number) % top for number in numbers(rows)]
            rows = np.concatenate([rows, as_rows(fitting, width)])  # all below the bound
            counts, valid = compiled.count_digits(rows, positions)
            expected, expected_valid = PORTABLE.count_digits(rows, positions)
            same((valid, counts[valid]), (expected_valid, expected[valid]))  # other counts mean nothing
            same(compiled.decode_digits(rows, positions), PORTABLE.decode_digits(rows, positions))


@pytest.mark.parametrize("positions", [1, 40, 77, 1200])
def test_what_was_encoded_in_digits_is_decoded(compiled: Any, positions: int) -> None:
    bits = np.random.default_rng(positions).integers(0, 2, (9, positions), dtype=np.uint8)
    same(compiled.decode_digits(compiled.encode_digits(bits), positions), (bits, np.ones(9, dtype=np.bool_)))


def test_more_digits_and_wider_rows_than_any_key_has(compiled: Any) -> None:
    bits = np.random.default_rng(1).integers(0, 2, (3, 5121), dtype=np.uint8)
    rows = compiled.encode_digits(bits)
    assert np.array_equal(rows, PORTABLE.encode_digits(bits))
    for positions in (5121, 4):
        wide = np.pad(rows, ((0, 0), (0, 30)))
        assert np.array_equal(compiled.count_digits(wide, positions)[1], PORTABLE.count_digits(wide, positions)[1])
        same(compiled.decode_digits(wide, positions), PORTABLE.decode_digits(wide, positions))
    assert np.array_equal(compiled.count_digits(rows, 5121)[0], bits.sum(axis=1))


@pytest.mark.parametrize("backend", [PORTABLE, *COMPILED.values()], ids=lambda backend: backend.name)
@pytest.mark.parametrize("encode", ["encode_slots", "encode_digits"])
def test_bits_other_than_0_and_1_are_refused(backend: Any, encode: str) -> None:
    for wrong in (2, 3, 254, 255):
        bits = np.ones((3, 77), dtype=np.uint8)
        bits[1, 40] = wrong
        with pytest.raises(ValueError, match="neither 0 nor 1"):
            getattr(backend, encode)(bits)


class TestWrongArguments:
    """The extension itself, past everything that prepares for it: an exception each time, never a crash."""

    @pytest.fixture
    def good(self, compiled: Any) -> dict[str, list[Any]]:
        """Arguments that each function takes."""
        p, q = primes(256)
        ring = compiled.prime_square(p, q)
        table = compiled.fixed_base_table(5, 3, p * p)
        head = [compiled.name, 1]
        rows, exponents, messages = pattern(9, 64), pattern(9, 3), pattern(9, 32)
        out, short, flags = np.empty((9, 64), np.uint8), np.empty((9, 32), np.uint8), np.empty(9, np.bool_)
        plain, mont = ring._reduction(64, 1), ring._reduction(64, ring._r)
        windows, factor = np.array([1, 2, 15], np.uint8), ring._factor(1)
        multiplier = compiled.multiplier(3, p * p)
        multiplier(rows)
        words, limbs = multiplier._maps[64], compiled.kernels.limbs_of_modulus(p * p)
        entries = table.entries[8]
        return {
            "linear": [*head, out, rows, words, limbs],
            "table": [*head, ring._ring, np.empty_like(entries), pattern(3, 64), mont],
            "fixed_encrypt": [*head, ring._ring, entries, out, exponents, messages],
            "fixed_read": [*head, ring._ring, entries, plain, factor, short, flags, rows, exponents],
            "power_encrypt": [*head, ring._ring, windows, mont, out, rows, messages],
            "power_read": [*head, ring._ring, windows, mont, factor, short, flags, rows],
            "below": [flags, rows, rows[0].copy()],
            "encode_slots": [np.empty((9, 16), np.uint8), np.ones((9, 64), np.uint8)],
            "count_slots": [np.empty(9, np.int64), flags, rows, 256],
            "encode_digits": [1, np.empty((9, bytes_of_digits(64)), np.uint8), np.ones((9, 64), np.uint8)],
            "count_digits": [1, np.empty(9, np.int64), flags, rows, 256],
            "decode_digits": [1, np.empty((9, 100), np.uint8), flags, rows],
        }

    NAMES = (
        "linear",
        "table",
        "fixed_encrypt",
        "fixed_read",
        "power_encrypt",
        "power_read",
        "below",
        "encode_slots",
        "count_slots",
        "encode_digits",
        "count_digits",
        "decode_digits",
    )

    FREE = frozenset({("power_encrypt", 3), ("power_read", 3)})
    """Exponents that all rows share are of any length."""

    ANY_WIDTH = frozenset(
        {("linear", 2), ("linear", 3), ("table", 4), ("fixed_encrypt", 6), ("fixed_read", 8), ("power_encrypt", 6)}
        | {("power_encrypt", 7), ("power_read", 8), ("encode_slots", 1), ("count_slots", 2)}
        | {("encode_digits", 2), ("count_digits", 3), ("decode_digits", 1), ("decode_digits", 3)}
    )
    """Rows may be narrower by a byte where that makes as many limbs."""

    @staticmethod
    def call(name: str, arguments: list[Any]) -> None:
        from xtrace_core.arithmetic import _native

        getattr(_native, name)(*arguments)

    @staticmethod
    def spoilt(array: NDArray[Any]) -> dict[str, Any]:
        """What an array may be instead of what it should be."""
        wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), dtype=array.dtype)
        return {
            "one too few": array[:-1].copy(),
            "one too many": np.concatenate([array, array[:1]]),
            "narrow": array[..., :-1].copy(),
            "strided": wide[..., ::2],
            "of other numbers": array.astype(np.int16),
            "of floats": array.astype(np.float64),
            "one dimension more": array[None],
            "a list": array.tolist(),
            "nothing": None,
            "big-endian": array.astype(array.dtype.newbyteorder(">")) if array.dtype.itemsize > 1 else None,
        }

    @pytest.mark.parametrize("name", NAMES)
    def test_good_ones_are_taken(self, good: dict[str, list[Any]], name: str) -> None:
        self.call(name, good[name])

    @pytest.mark.parametrize("name", NAMES)
    def test_arrays_of_any_other_shape_or_type(self, good: dict[str, list[Any]], name: str) -> None:
        # An input may have another number of rows or another width as long as everything fits together.
        for place, argument in enumerate(good[name]):
            if not isinstance(argument, np.ndarray):
                continue
            for what, other in self.spoilt(argument).items():
                if name in ("fixed_encrypt", "power_encrypt") and place == len(good[name]) - 1 and other is None:
                    continue  # no messages
                if (name, place) in self.FREE and what in ("one too few", "one too many", "narrow"):
                    continue
                if (name, place) in self.ANY_WIDTH and what == "narrow":
                    continue
                arguments = [*good[name]]
                arguments[place] = other
                with pytest.raises((TypeError, ValueError, BufferError)):
                    self.call(name, arguments)

    OUTPUTS = (
        *(("linear", 2), ("table", 3), ("fixed_encrypt", 4), ("fixed_read", 6), ("fixed_read", 7)),
        *(("power_encrypt", 5), ("power_read", 6), ("power_read", 7), ("below", 0), ("encode_slots", 0)),
        *(("count_slots", 0), ("count_slots", 1), ("encode_digits", 1), ("count_digits", 1), ("count_digits", 2)),
        *(("decode_digits", 1), ("decode_digits", 2)),
    )

    @pytest.mark.parametrize(("name", "place"), OUTPUTS)
    def test_outputs_that_are_not_writable(self, good: dict[str, list[Any]], name: str, place: int) -> None:
        good[name][place].flags.writeable = False
        with pytest.raises((ValueError, BufferError), match="read-only"):
            self.call(name, good[name])

    @pytest.mark.parametrize("name", NAMES)
    def test_numbers_out_of_range(self, good: dict[str, list[Any]], name: str) -> None:
        for place, argument in enumerate(good[name]):
            if (name == "linear" and place == 5) or (name == "count_slots" and place == 3):
                for number in (-1, -(1 << 62)) if name == "count_slots" else (-1, 0, 1, 7, 1 << 20, 1 << 62):
                    with pytest.raises((ValueError, OverflowError)):
                        self.call(name, [*good[name][:place], number, *good[name][place + 1 :]])
            if isinstance(argument, tuple):  # the ring: half, bytes of the prime and of its square, words
                for i in range(3):
                    for number in (-1, 0, 1 << 20, 1 << 62):
                        ring = (*argument[:i], number, *argument[i + 1 :])
                        with pytest.raises((ValueError, OverflowError)):
                            self.call(name, [*good[name][:place], ring, *good[name][place + 1 :]])

    def test_tables_of_other_windows_than_4_and_8_bits(self, good: dict[str, list[Any]]) -> None:
        for name in ("table", "fixed_encrypt", "fixed_read"):
            entries = good[name][3]
            windows = 1 if name == "table" else 2  # of 4 bits, for each row of bases or byte of an exponent
            self.call(name, [*good[name][:3], entries[: windows * len(entries) // 16], *good[name][4:]])
            for words in (0, 8, len(entries) // 2, windows * len(entries) // 16 - 8, len(entries) - 8):
                with pytest.raises(ValueError, match=r"the table has \d+ words, expected \d+ or \d+"):
                    self.call(name, [*good[name][:3], entries[:words], *good[name][4:]])

    def test_more_digits_or_longer_rows_than_the_kernels_hold(self, good: dict[str, list[Any]]) -> None:
        for positions in (-1, -(1 << 62), 5121, 1 << 62):
            with pytest.raises(ValueError, match="at most 5120 in 1024"):
                self.call("count_digits", [*good["count_digits"][:4], positions])
        flags, wide = good["count_digits"][2], pattern(9, 1025)
        for name, arguments in {
            "count_digits": [*good["count_digits"][:3], wide, 5120],
            "decode_digits": [*good["decode_digits"][:3], wide],
            "encode_digits": [1, np.empty((9, 1015), np.uint8), pattern(9, 5121) & np.uint8(1)],
        }.items():
            with pytest.raises(ValueError, match="at most 5120 in 1024"):
                self.call(name, arguments)
        self.call("decode_digits", [1, np.empty((9, 5120), np.uint8), flags, pattern(9, 1024)])
        self.call("encode_digits", [1, np.empty((9, bytes_of_digits(5120)), np.uint8), pattern(9, 5120)])

    def test_even_moduli(self, good: dict[str, list[Any]]) -> None:
        words = good["linear"][4].copy()
        words[0] &= ~np.uint64(1)
        with pytest.raises(ValueError, match="even"):
            self.call("linear", [*good["linear"][:4], words, good["linear"][5]])
        for name in self.NAMES[1:6]:
            *sizes, words = good[name][2]
            words = words.copy()
            words[0] ^= np.uint64(1)
            with pytest.raises(ValueError, match="even"):
                self.call(name, [*good[name][:2], (*sizes, words), *good[name][3:]])

    def test_an_exponent_with_a_digit_that_is_none(self, good: dict[str, list[Any]]) -> None:
        for digits in ([], [1, 16], [255]):
            good["power_read"][3] = np.array(digits, dtype=np.uint8)
            with pytest.raises(ValueError, match="exponent"):
                self.call("power_read", good["power_read"])

    def test_kernels_that_there_are_not(self, good: dict[str, list[Any]]) -> None:
        for name in self.NAMES[:6]:
            with pytest.raises(ValueError, match="no kernels"):
                self.call(name, ["abacus", *good[name][1:]])

    def test_any_words_give_numbers_and_no_crash(self, good: dict[str, list[Any]]) -> None:
        # What a constant is decides what comes out, never what is touched.
        for name in self.NAMES[:6]:
            arguments = [
                np.full_like(one, np.iinfo(np.uint64).max)
                if isinstance(one, np.ndarray) and one.dtype == np.uint64
                else (*one[:3], np.full_like(one[3], np.iinfo(np.uint64).max))
                if isinstance(one, tuple)
                else one
                for one in good[name]
            ]
            self.call(name, arguments)


def test_the_lock_is_released_while_a_kernel_works(compiled: Any) -> None:
    import threading
    import time

    p, q = primes(1024)
    ring = compiled.prime_square(p, q)
    rows = pattern(64, 256)
    ticks: list[float] = []
    stop = threading.Event()

    def tick() -> None:
        while not stop.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.0005)

    ticking = threading.Thread(target=tick)
    ticking.start()
    started = time.perf_counter()
    ring.read_power(rows, p - 1)
    ended = time.perf_counter()
    stop.set()
    ticking.join()
    assert sum(started < at < ended for at in ticks) >= 3


def refusing(work: Callable[[], object]) -> None:
    with pytest.raises((TypeError, ValueError)):
        work()


def test_tables_and_rings_of_different_primes_do_not_mix(compiled: Any) -> None:
    p, q = primes(256)
    table = compiled.fixed_base_table(5, 3, q * q)
    ring = compiled.prime_square(p, q)
    refusing(lambda: ring.encrypt(pattern(2, 32), table, pattern(2, 3)))
    refusing(lambda: ring.read(pattern(2, 64), table, pattern(2, 3)))
    own = compiled.fixed_base_table(5, 3, p * p)
    refusing(lambda: ring.read(pattern(2, 64), own, pattern(2, 4)))
    refusing(lambda: ring.read(pattern(2, 64), own, pattern(3, 3)))
    refusing(lambda: ring.encrypt(pattern(3, 32), own, pattern(2, 3)))
