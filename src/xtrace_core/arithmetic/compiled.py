"""The compiled backend: kernels in C for one instruction set, prepared and called from here.

A kernel takes rows, and constants derived from a modulus, a factor or a key, as arrays of *limbs*; native/kernels.h
describes each. This module derives those constants from integers, and touches no single row. The portable backend does
what the kernels do not: even moduli, sizes beyond those of any key, powers modulo something other than a square, and
batches too small to be worth the preparation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd, isqrt
from typing import NamedTuple

import numpy as np
from gmpy2 import invert, mpz, powmod
from numpy.typing import NDArray

from xtrace_core.arithmetic import _native
from xtrace_core.arithmetic.interface import (
    FixedBaseTable,
    Joiner,
    Multiplier,
    PrimeSquare,
    Rows,
    as_rows,
    check_bits,
    row_width,
)
from xtrace_core.arithmetic.portable import PortableArithmetic
from xtrace_core.secrecy import Secretive

Words = NDArray[np.uint64]
Flags = NDArray[np.bool_]

FEW_ROWS = 8
"""Up to this number of rows, multiplying them one by one is faster than preparing a factor."""

SPARE_BITS = 8
"""Bits that a modulus leaves unused in its limbs, so that a sum of a few residues needs no subtraction."""

MIN_PRIME_BITS = 128

INVERSE_LIMBS = 3
"""Limbs of the inverse of a prime that kernels take."""

WINDOW_BITS, INDEXED_BITS = 4, 8
"""The window in bits if every entry is read (constant time), and if the exponent selects the entry to read."""

MAX_DIGITS, MAX_DIGIT_BYTES = 5120, 1024
"""The most base-3 digits, and the widest rows, that the kernels accept."""


class KernelSet(NamedTuple):
    """The kernels for one instruction set, and the shape of their inputs."""

    name: str
    limb_bits: int
    tile: int
    lanes: int
    max_limbs: int
    max_half: int
    tables_of_doubles: bool

    def limbs_of_modulus(self, modulus: int) -> int:
        """The number of limbs of a residue: room for the spare bits, in whole tiles."""
        return -(-(modulus.bit_length() + SPARE_BITS) // (self.limb_bits * self.tile)) * self.tile

    def limbs_of_row(self, width: int) -> int:
        """The number of limbs of a row with this many bytes."""
        return -(-8 * width // self.limb_bits)

    def limbs(self, values: Sequence[int], count: int) -> Words:
        """The integers as `(n, count)` limbs, least significant first."""
        words = -(-count * self.limb_bits // 64) + 1
        rows = as_rows([int(value) for value in values], 8 * words).view("<u8")
        bit = np.arange(count) * self.limb_bits
        word, shift = bit // 64, (bit % 64).astype(np.uint64)
        both = (rows[:, word] >> shift) | (rows[:, word + 1] << np.uint64(1) << (np.uint64(63) - shift))
        return both & np.uint64((1 << self.limb_bits) - 1)

    def tiles(self, table: Words) -> Words:
        """`(rows, limbs)` in the order and the type in which kernels read it: one tile of columns after the other."""
        rows, limbs = table.shape
        if self.tables_of_doubles:
            table = table.astype(np.float64).view(np.uint64)
        return np.ascontiguousarray(table.reshape(rows, limbs // self.tile, self.tile).transpose(1, 0, 2)).reshape(-1)

    def inverse(self, modulus: int, count: int) -> Words:
        """`-1 / modulus` modulo what so many limbs hold."""
        base = 1 << self.limb_bits * count
        return self.limbs([int(-invert(modulus, base)) % base], count).reshape(-1)


def kernel_sets() -> list[KernelSet]:
    """The kernels that this processor can run, fastest first."""
    return [KernelSet(*entry) for entry in _native.supported()]


class CompiledArithmetic:
    """One set of kernels behind the interface `Arithmetic`; releases the interpreter's lock, and spreads batches over
    `threads` threads."""

    def __init__(self, kernels: KernelSet, threads: int = 1, constant_time: bool = False) -> None:
        self.name = kernels.name
        self.kernels = kernels
        self.threads = threads
        self._portable = PortableArithmetic(constant_time)

    @property
    def constant_time(self) -> bool:
        return self._portable.constant_time

    @constant_time.setter
    def constant_time(self, on: bool) -> None:
        self._portable.constant_time = on

    def multiply(self, rows: Rows, factor: int, modulus: int, plus: int = 0) -> Rows:
        if self._are_few(rows):
            return self._portable.multiply(rows, factor, modulus, plus)
        return self.multiplier(factor, modulus, plus)(rows)

    def multiply_pairs(self, left: Rows, right: Rows, modulus: int) -> Rows:
        return self._portable.multiply_pairs(left, right, modulus)

    def divide(self, rows: Rows, divisor: int) -> tuple[Rows, Rows]:
        return self._portable.divide(rows, divisor)

    def power(self, rows: Rows, exponent: int, modulus: int) -> Rows:
        root = self._root(modulus)
        if not root:
            return self._portable.power(rows, exponent, modulus)
        return _CompiledPrimeSquare(self, root, 1).power(rows, exponent)

    def fixed_base_table(self, base: int, exponent_bytes: int, modulus: int) -> FixedBaseTable:
        root = self._root(modulus)
        if not root:
            return self._portable.fixed_base_table(base, exponent_bytes, modulus)
        return _CompiledPrimeSquare(self, root, 1).table(base, exponent_bytes)

    def fixed_base_power(self, table: FixedBaseTable, exponents: Rows) -> Rows:
        if not isinstance(table, _Table):
            return self._portable.fixed_base_power(table, exponents)
        return table.ring.encrypt(None, table, exponents)

    def join(self, residues: Rows, modulus: int, others: Rows, coprime: int) -> Rows:
        if self._are_few(residues):
            return self._portable.join(residues, modulus, others, coprime)
        return self.joiner(modulus, coprime)(residues, others)

    def multiplier(self, factor: int, modulus: int, plus: int = 0) -> Multiplier:
        if not self._can_reduce(modulus):
            return self._portable.multiplier(factor, modulus, plus)
        return _Multiplier(self, factor, modulus, plus)

    def joiner(self, modulus: int, coprime: int) -> Joiner:
        if not self._can_reduce(modulus * coprime):
            return self._portable.joiner(modulus, coprime)
        return _Joiner(self, modulus, coprime)

    def prime_square(self, prime: int, other: int) -> PrimeSquare:
        if not self._root(prime * prime) or gcd(prime, other) != 1:
            return self._portable.prime_square(prime, other)  # which rejects common factors
        return _CompiledPrimeSquare(self, prime, other)

    def below(self, rows: Rows, bound: int) -> Flags:
        width = rows.shape[1]
        flags = np.empty(len(rows), dtype=np.bool_)
        limit = np.frombuffer(min(bound, 256**width).to_bytes(width + 1, "little"), dtype=np.uint8)
        if limit[width]:
            return np.asarray(rows.any(axis=1))
        _native.below(flags, np.ascontiguousarray(rows), limit[:width])
        return flags

    def encode_slots(self, bits: NDArray[np.uint8]) -> Rows:
        out = np.empty((len(bits), -(-2 * bits.shape[1] // 8)), dtype=np.uint8)
        _native.encode_slots(out, np.ascontiguousarray(bits))
        return out

    def count_slots(self, rows: Rows, positions: int) -> tuple[NDArray[np.int64], Flags]:
        counts, flags = np.empty(len(rows), dtype=np.int64), np.empty(len(rows), dtype=np.bool_)
        _native.count_slots(counts, flags, np.ascontiguousarray(rows), positions)
        return counts, flags

    def encode_digits(self, bits: NDArray[np.uint8]) -> Rows:
        if bits.shape[1] > MAX_DIGITS:
            return self._portable.encode_digits(bits)
        check_bits(bits)
        out = np.empty((len(bits), row_width(3 ** bits.shape[1])), dtype=np.uint8)
        _native.encode_digits(self.threads, out, np.ascontiguousarray(bits))
        return out

    def count_digits(self, rows: Rows, positions: int) -> tuple[NDArray[np.int64], Flags]:
        if positions > MAX_DIGITS or rows.shape[1] > MAX_DIGIT_BYTES:
            return self._portable.count_digits(rows, positions)
        counts, flags = np.empty(len(rows), dtype=np.int64), np.empty(len(rows), dtype=np.bool_)
        _native.count_digits(self.threads, counts, flags, np.ascontiguousarray(rows), positions)
        return counts, flags

    def decode_digits(self, rows: Rows, positions: int) -> tuple[NDArray[np.uint8], Flags]:
        if positions > MAX_DIGITS or rows.shape[1] > MAX_DIGIT_BYTES:
            return self._portable.decode_digits(rows, positions)
        bits, flags = np.empty((len(rows), positions), dtype=np.uint8), np.empty(len(rows), dtype=np.bool_)
        _native.decode_digits(self.threads, bits, flags, np.ascontiguousarray(rows))
        return bits, flags

    def _are_few(self, rows: Rows) -> bool:
        """Whether gmpy2, whose running time depends on the values, may process the rows because it is faster."""
        return len(rows) <= FEW_ROWS and not self.constant_time

    def _can_reduce(self, modulus: int) -> bool:
        return modulus > 1 and modulus % 2 == 1 and self.kernels.limbs_of_modulus(modulus) <= self.kernels.max_limbs

    def _root(self, modulus: int) -> int:
        """The square root of a modulus that the kernels for squares accept, else 0."""
        root = isqrt(modulus)
        fits = root.bit_length() >= MIN_PRIME_BITS and self.kernels.limbs_of_modulus(root) <= self.kernels.max_half
        return root if fits and root % 2 and root * root == modulus else 0


def _powers_of_two(kernels: KernelSet, start: int, modulus: int, count: int) -> list[int]:
    """`start * 2^(2 bits) * 2^(bits * i) mod modulus` for i below the count: what a linear map multiplies limb i by."""
    mod, bits = mpz(modulus), kernels.limb_bits
    value = (mpz(start) << 2 * bits) % mod
    values = []
    for _ in range(count):
        values.append(int(value))
        value = (value << bits) % mod
    return values


def _map(kernels: KernelSet, factors: list[int], modulus: int, plus: int) -> Words:
    """A linear map: modulus, what is added, inverse, table."""
    limbs = kernels.limbs_of_modulus(modulus)
    head = kernels.limbs([modulus, (plus << 2 * kernels.limb_bits) % modulus], limbs)
    return np.concatenate([head.reshape(-1), kernels.inverse(modulus, 1), kernels.tiles(kernels.limbs(factors, limbs))])


class _Multiplier(Secretive):
    __slots__ = ("_arithmetic", "_factor", "_maps", "_modulus", "_plus")

    def __init__(self, arithmetic: CompiledArithmetic, factor: int, modulus: int, plus: int) -> None:
        self._arithmetic = arithmetic
        self._factor, self._modulus, self._plus = factor, modulus, plus
        self._maps: dict[int, Words] = {}

    def __call__(self, rows: Rows) -> Rows:
        kernels, width = self._arithmetic.kernels, rows.shape[1]
        limbs = kernels.limbs_of_row(width)
        if not 0 < limbs <= kernels.max_limbs:
            return PortableArithmetic().multiply(rows, self._factor, self._modulus, self._plus)
        return _linear(self._arithmetic, rows, self._prepared(width), self._modulus)

    def _prepared(self, width: int) -> Words:
        if width not in self._maps:
            kernels = self._arithmetic.kernels
            factors = _powers_of_two(kernels, self._factor, self._modulus, kernels.limbs_of_row(width))
            self._maps[width] = _map(kernels, factors, self._modulus, self._plus)
        return self._maps[width]


class _Joiner(Secretive):
    """x = a·A + b·B, where A is 1 modulo the first modulus and 0 modulo the second, and B the reverse: a linear map of
    both rows, concatenated, where the second starts at a limb."""

    __slots__ = ("_arithmetic", "_map", "_moduli", "_product", "_start", "_widths")

    def __init__(self, arithmetic: CompiledArithmetic, modulus: int, coprime: int) -> None:
        kernels = arithmetic.kernels
        bytes_of_limbs = np.lcm(kernels.limb_bits, 8) // 8
        self._arithmetic = arithmetic
        self._moduli = modulus, coprime
        self._widths = row_width(modulus), row_width(coprime)
        self._start = int(-(-self._widths[0] // bytes_of_limbs) * bytes_of_limbs)
        self._product = modulus * coprime
        self._map: Words | None = None

    def __call__(self, residues: Rows, others: Rows) -> Rows:
        if len(residues) != len(others):
            raise ValueError(f"got {len(residues)} and {len(others)} residues; the counts must match")
        if (residues.shape[1], others.shape[1]) != self._widths:
            return PortableArithmetic().join(residues, self._moduli[0], others, self._moduli[1])
        both = np.zeros((len(residues), self._start + others.shape[1]), dtype=np.uint8)
        both[:, : residues.shape[1]] = residues
        both[:, self._start :] = others
        return _linear(self._arithmetic, both, self._prepared(), self._product)

    def _prepared(self) -> Words:
        if self._map is None:
            kernels, (modulus, coprime) = self._arithmetic.kernels, self._moduli
            first = coprime * int(invert(coprime, modulus))
            limbs = 8 * self._start // kernels.limb_bits
            factors = _powers_of_two(kernels, first, self._product, limbs)
            second = kernels.limbs_of_row(self._widths[1])
            factors += _powers_of_two(kernels, 1 + self._product - first, self._product, second)
            self._map = _map(kernels, factors, self._product, 0)
        return self._map


def _linear(arithmetic: CompiledArithmetic, rows: Rows, words: Words, modulus: int) -> Rows:
    out = np.empty((len(rows), row_width(modulus)), dtype=np.uint8)
    limbs = arithmetic.kernels.limbs_of_modulus(modulus)
    _native.linear(arithmetic.name, arithmetic.threads, out, np.ascontiguousarray(rows), words, limbs)
    return out


@dataclass(frozen=True, slots=True, repr=False)
class _Table(Secretive):
    base: int
    modulus: int
    exponent_bytes: int
    ring: "_CompiledPrimeSquare"
    entries: dict[int, Words]  # by the bits of a window, computed on first use


class _CompiledPrimeSquare(Secretive):
    """The ring of integers modulo p², written to base p; `struct ring` of native/kernels.h."""

    __slots__ = (
        "_arithmetic",
        "_factors",
        "_half",
        "_kernels",
        "_r",
        "_reductions",
        "_residues",
        "_ring",
        "_square",
        "other",
        "prime",
    )

    def __init__(self, arithmetic: CompiledArithmetic, prime: int, other: int) -> None:
        kernels = arithmetic.kernels
        half = kernels.limbs_of_modulus(prime)
        self.prime, self.other = prime, other
        self._arithmetic = arithmetic
        self._kernels = kernels
        self._square = prime * prime
        self._half = half
        self._r = 1 << (kernels.limb_bits * half)
        mask = np.uint64((1 << kernels.limb_bits) - 1)  # in each limb; together R − 1
        one = self._r % self._square
        words = kernels.limbs([prime, (1 - self._r) % prime, other * self._r % prime, one % prime, one // prime], half)
        words[1] += mask
        sizes = half, row_width(prime), row_width(self._square)
        self._ring = (*sizes, np.concatenate([words.reshape(-1), kernels.inverse(prime, INVERSE_LIMBS)]))
        self._residues = arithmetic.multiplier(1, prime)
        self._reductions: dict[tuple[int, int], Words] = {}
        self._factors: dict[int, Words] = {}

    def encrypt(self, messages: Rows | None, table: FixedBaseTable, exponents: Rows) -> Rows:
        entries = self._entries(table, exponents)
        out = np.empty((len(exponents), row_width(self._square)), dtype=np.uint8)
        a = self._arithmetic
        _native.fixed_encrypt(a.name, a.threads, self._ring, entries, out, _rows(exponents), self._messages(messages))
        return out

    def encrypt_power(self, messages: Rows | None, rows: Rows, exponent: int) -> Rows:
        out = np.empty((len(rows), row_width(self._square)), dtype=np.uint8)
        reduction = self._reduction(rows.shape[1], self._r)
        a, windows = self._arithmetic, _windows(exponent)
        _native.power_encrypt(
            a.name, a.threads, self._ring, windows, reduction, out, _rows(rows), self._messages(messages)
        )
        return out

    def power(self, rows: Rows, exponent: int) -> Rows:
        """`row ** exponent` alone."""
        if not 0 < self._kernels.limbs_of_row(rows.shape[1]) <= self._kernels.max_limbs:
            return PortableArithmetic().power(rows, exponent, self._square)
        return self.encrypt_power(None, rows, exponent)

    def read(self, rows: Rows, table: FixedBaseTable, exponents: Rows) -> tuple[Rows, Flags]:
        entries = self._entries(table, exponents)
        out, valid = self._readings(len(rows))
        a, reduction, factor = self._arithmetic, self._reduction(rows.shape[1], 1), self._factor(1)
        _native.fixed_read(
            a.name, a.threads, self._ring, entries, reduction, factor, out, valid, _rows(rows), _rows(exponents)
        )
        return out, valid

    def read_power(self, rows: Rows, exponent: int) -> tuple[Rows, Flags]:
        out, valid = self._readings(len(rows))
        a, reduction = self._arithmetic, self._reduction(rows.shape[1], self._r)
        windows, factor = _windows(exponent), self._factor(exponent)
        _native.power_read(a.name, a.threads, self._ring, windows, reduction, factor, out, valid, _rows(rows))
        return out, valid

    def table(self, base: int, exponent_bytes: int) -> _Table:
        """The powers of a base for `encrypt` and `read`."""
        table = _Table(base, self._square, exponent_bytes, self, {})
        self._prepared_entries(table)
        return table

    def _prepared_entries(self, table: _Table) -> Words:
        """The entries of all windows: to be indexed, or to be read in full. Kernels tell which by their number."""
        bits = WINDOW_BITS if self._arithmetic.constant_time else INDEXED_BITS
        if bits not in table.entries:
            table.entries[bits] = self._new_entries(table.base, bits, 8 * table.exponent_bytes // bits)
        return table.entries[bits]

    def _new_entries(self, base: int, bits: int, windows: int) -> Words:
        bases, step = [], mpz(base) % self._square
        for _ in range(windows):
            bases.append(int(step))
            step = powmod(step, 1 << bits, self._square)
        words = -(-2 * self._half // 8) * 8
        entries = np.empty((windows << bits) * words, dtype=np.uint64)
        rows = as_rows(bases, row_width(self._square))
        a, reduction = self._arithmetic, self._reduction(rows.shape[1], self._r)
        _native.table(a.name, a.threads, self._ring, entries, rows, reduction)
        return entries

    def _readings(self, count: int) -> tuple[Rows, Flags]:
        return np.empty((count, row_width(self.prime)), dtype=np.uint8), np.empty(count, dtype=np.bool_)

    def _entries(self, table: FixedBaseTable, exponents: Rows) -> Words:
        if not isinstance(table, _Table) or table.modulus != self._square:
            raise TypeError(f"got a table of {type(table).__name__}, expected one made here, for this modulus")
        if exponents.shape[1] != table.exponent_bytes:
            raise ValueError(f"got exponents of {exponents.shape[1]} bytes, expected {table.exponent_bytes}")
        return self._prepared_entries(table)

    def _messages(self, messages: Rows | None) -> Rows | None:
        if messages is None:
            return None
        return self._residues(messages) if messages.shape[1] > row_width(self.prime) else _rows(messages)

    def _reduction(self, width: int, factor: int) -> Words:
        """How rows of this many bytes become digits of row times factor: an addend for the second digit, which corrects
        the 2^(2 bits) − 1 that the kernel adds to keep everything non-negative, and a table for both digits."""
        if (width, factor) not in self._reductions:
            kernels, prime = self._kernels, self.prime
            values = _powers_of_two(kernels, factor, self._square, kernels.limbs_of_row(width))
            plus = kernels.limbs([0, (1 - (1 << 2 * kernels.limb_bits)) % prime], self._half)
            pairs = [divmod(value, prime) for value in values]
            digits = [kernels.limbs([pair[i] for pair in pairs], self._half) for i in (1, 0)]
            tables = [kernels.tiles(part) for part in digits]
            self._reductions[width, factor] = np.concatenate([plus.reshape(-1), *tables])
        return self._reductions[width, factor]

    def _factor(self, exponent: int) -> Words:
        """What the second digit of (1 + n)^(m·exponent) is multiplied by to give m, times R."""
        if exponent not in self._factors:
            factor = int(invert(exponent * self.other, self.prime)) * self._r % self.prime
            self._factors[exponent] = self._kernels.limbs([factor], self._half).reshape(-1)
        return self._factors[exponent]


def _rows(rows: Rows) -> Rows:
    return np.ascontiguousarray(rows)


def _windows(exponent: int) -> NDArray[np.uint8]:
    """The exponent's digits in base 2^WINDOW_BITS, most significant first. No digit becomes a Python object, because
    its address would reveal it."""
    count = max(1, -(-exponent.bit_length() // WINDOW_BITS))
    pairs = np.frombuffer(exponent.to_bytes(-(-count // 2), "big"), dtype=np.uint8)
    return np.stack([pairs >> WINDOW_BITS, pairs & (1 << WINDOW_BITS) - 1], axis=1).reshape(-1)[-count:]
