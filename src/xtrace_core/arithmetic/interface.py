"""What a backend of big-integer arithmetic offers.

A batch of n integers is a `Rows` array: shape `(n, width)`, dtype uint8, C-contiguous, each row one integer in
little-endian bytes, zero-padded to `width`. What is prepared (a table, a `Multiplier`, a `Joiner`, a `PrimeSquare`) may
be prepared from secrets, so its class is `Secretive`. No operation takes one integer at a time, so that a compiled
backend can process a whole batch without creating Python objects.
"""

from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.uint8]
Buffer: TypeAlias = bytes | memoryview
"""Bytes, or a view of a mapped file."""


def row_width(modulus: int) -> int:
    """The width in bytes of a row of residues modulo `modulus`."""
    return (modulus.bit_length() + 7) // 8


def as_rows(values: list[int], width: int) -> Rows:
    """The integers as an `(n, width)` array. Raises `OverflowError` for one that is negative or too wide."""
    data = b"".join(value.to_bytes(width, "little") for value in values)
    return np.frombuffer(data, dtype=np.uint8).reshape(len(values), width)


def check_bits(bits: NDArray[np.uint8]) -> None:
    """Raises `ValueError` for an element that is neither 0 nor 1."""
    if bits.max(initial=0) > 1:
        raise ValueError("got a bit that is neither 0 nor 1")


class FixedBaseTable(Protocol):
    """The powers of one base that a backend needs to raise it to many exponents; opaque except for its sizes."""

    @property
    def exponent_bytes(self) -> int:
        """The width of the exponent rows that the table supports."""

    @property
    def modulus(self) -> int:
        """The modulus of the powers."""


class Multiplier(Protocol):
    """`(row * factor + plus) mod modulus`, prepared for a factor that multiplies many batches."""

    def __call__(self, rows: Rows) -> Rows:
        """The products, as new rows of the modulus's width."""


class Joiner(Protocol):
    """The Chinese remainder theorem for two moduli, prepared."""

    def __call__(self, residues: Rows, others: Rows) -> Rows:
        """The integers below the product of the moduli with these residues modulo each."""


class PrimeSquare(Protocol):
    """Arithmetic modulo p² for one prime p of a modulus n = p·other, prepared.

    Modulo p² the powers of 1 + n are 1 + m·n, and m matters only modulo p. A power of a fixed base (a `FixedBaseTable`
    modulo p²) or of a row hides m. Exponents that all rows share are secret: the time of a call depends only on their
    length.
    """

    @property
    def prime(self) -> int:
        """p."""

    @property
    def other(self) -> int:
        """n / p."""

    def encrypt(self, messages: Rows, table: FixedBaseTable, exponents: Rows) -> Rows:
        """`(1 + n) ** message * base ** exponent mod p²`."""
        ...

    def encrypt_power(self, messages: Rows, rows: Rows, exponent: int) -> Rows:
        """`(1 + n) ** message * row ** exponent mod p²`."""
        ...

    def read(self, rows: Rows, table: FixedBaseTable, exponents: Rows) -> tuple[Rows, NDArray[np.bool_]]:
        """`(m, valid)` with `row * base ** exponent = (1 + n) ** m mod p²`; m below p, valid where there is one."""
        ...

    def read_power(self, rows: Rows, exponent: int) -> tuple[Rows, NDArray[np.bool_]]:
        """`(m, valid)` with `row ** exponent = (1 + n) ** (m * exponent) mod p²`; p does not divide the exponent."""
        ...


class Arithmetic(Protocol):
    """A backend. Every method takes and returns `Rows`; results are new arrays.

    Factors, addends and exponents are non-negative, moduli positive. Inputs need not be reduced; results always are.
    The time of a call may depend on the values unless a method says otherwise.
    """

    name: str

    constant_time: bool
    """Whether powers of a fixed base hide their exponents from programs that share the processor's caches, at a price.

    May be changed at any time. It also applies to existing tables, which are rebuilt when next needed.
    """

    def multiply(self, rows: Rows, factor: int, modulus: int, plus: int = 0) -> Rows:
        """`(row * factor + plus) mod modulus` for each row."""
        ...

    def multiply_pairs(self, left: Rows, right: Rows, modulus: int) -> Rows:
        """`left[i] * right[i] mod modulus`; both have the same number of rows, of any width."""
        ...

    def divide(self, rows: Rows, divisor: int) -> tuple[Rows, Rows]:
        """`(row // divisor, row % divisor)`; quotients as wide as the rows, remainders as wide as the divisor."""
        ...

    def power(self, rows: Rows, exponent: int, modulus: int) -> Rows:
        """`row ** exponent mod modulus` for each row; the modulus is odd."""
        ...

    def fixed_base_table(self, base: int, exponent_bytes: int, modulus: int) -> FixedBaseTable:
        """A table for `fixed_base_power`, for an odd modulus: 256 powers for each byte of the exponent.

        In constant time, 16 for each half of a byte; the portable backend then needs no table.
        """
        ...

    def fixed_base_power(self, table: FixedBaseTable, exponents: Rows) -> Rows:
        """`base ** exponent mod modulus` for each exponent: one product for each of its bytes, no exponentiation.

        The exponents decide which powers are read from the table. In constant time all of them are read, in the same
        order; the portable backend then uses a power function made for secret exponents.
        """
        ...

    def join(self, residues: Rows, modulus: int, others: Rows, coprime: int) -> Rows:
        """The integers below `modulus * coprime` with these residues modulo each (Chinese remainder theorem)."""
        ...

    # Prepared: what depends only on a factor or a modulus is computed once

    def multiplier(self, factor: int, modulus: int, plus: int = 0) -> Multiplier:
        """`multiply` for many batches."""
        ...

    def joiner(self, modulus: int, coprime: int) -> Joiner:
        """`join` for many batches."""
        ...

    def prime_square(self, prime: int, other: int) -> PrimeSquare:
        """Arithmetic modulo the square of an odd prime of n = prime * other. Raises `ValueError` if it divides
        `other`."""
        ...

    # Rows as bits

    def below(self, rows: Rows, bound: int) -> NDArray[np.bool_]:
        """`0 < row < bound` for each row."""
        ...

    def encode_slots(self, bits: NDArray[np.uint8]) -> Rows:
        """The sums of `bits[i] * 4 ** (w - 1 - i)` over each row of w bits, in ⌈2w/8⌉ bytes.

        Raises `ValueError` for an element that is neither 0 nor 1.
        """
        ...

    def count_slots(self, rows: Rows, positions: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """`(count, valid)`: how many pairs of bits are 1, in a time that does not depend on the values.

        Not valid: a pair is 3, or a bit above the top position is set.
        """
        ...

    def encode_digits(self, bits: NDArray[np.uint8]) -> Rows:
        """The sums of `bits[i] * 3 ** (w - 1 - i)` over each row of w bits, as wide as 3^w.

        If compiled, in a time that does not depend on the values. Raises `ValueError` for an element that is neither 0
        nor 1.
        """
        ...

    def count_digits(self, rows: Rows, positions: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """`(count, valid)`: how many base-3 digits are 1; if compiled, in a time that does not depend on the values.

        Not valid: a row is `3 ** positions` or more; ignore its count.
        """
        ...

    def decode_digits(self, rows: Rows, positions: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """`(bits, valid)`: the inverse of `encode_digits`; if compiled, in a time that does not depend on the values.

        Not valid: a digit is 2, or a row is `3 ** positions` or more; ignore its bits.
        """
        ...
