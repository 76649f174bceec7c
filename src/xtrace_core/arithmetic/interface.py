"""What a backend of big-integer arithmetic offers.

A batch of n integers is a `Rows` array: shape `(n, width)`, dtype uint8, C-contiguous, each row one integer in
little-endian bytes, zero-padded to `width`. Nothing in the interface is one integer at a time, so that a compiled
backend can take a whole batch without making Python objects.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.uint8]

WINDOW_BITS = 8
"""Width of the windows of a fixed-base table: one table look-up for each byte of an exponent."""


def row_width(modulus: int) -> int:
    """The bytes that a row of residues modulo `modulus` takes."""
    return (modulus.bit_length() + 7) // 8


def as_rows(values: list[int], width: int) -> Rows:
    """The integers as an `(n, width)` array; an integer that is negative or too wide is an `OverflowError`."""
    data = b"".join(value.to_bytes(width, "little") for value in values)
    return np.frombuffer(data, dtype=np.uint8).reshape(len(values), width)


class FixedBaseTable(Protocol):
    """The powers of one base that a backend needs to raise it to many exponents; opaque but for its sizes."""

    @property
    def exponent_bytes(self) -> int:
        """The width of the exponent rows that the table serves."""

    @property
    def modulus(self) -> int:
        """What the powers are reduced by."""


class Arithmetic(Protocol):
    """A backend. Every method takes and gives `Rows`; results are new arrays.

    Factors, addends and exponents are non-negative, moduli positive. Values need not be reduced on the way in, and
    always are on the way out. The time a call takes may depend on the values unless a method says otherwise.
    """

    name: str

    def multiply(self, rows: Rows, factor: int, modulus: int, plus: int = 0) -> Rows:
        """`(row * factor + plus) mod modulus` for each row."""
        ...

    def multiply_pairs(self, left: Rows, right: Rows, modulus: int) -> Rows:
        """`left[i] * right[i] mod modulus`; both of the same number of rows, of any widths."""
        ...

    def divide(self, rows: Rows, divisor: int) -> tuple[Rows, Rows]:
        """`(row // divisor, row % divisor)`; quotients as wide as the rows, remainders as wide as the divisor."""
        ...

    def power(self, rows: Rows, exponent: int, modulus: int) -> Rows:
        """`row ** exponent mod modulus` for each row; the modulus is odd."""
        ...

    def fixed_base_table(self, base: int, exponent_bytes: int, modulus: int) -> FixedBaseTable:
        """A table for `fixed_base_power`: 255 powers for each byte of the exponent."""
        ...

    def fixed_base_power(self, table: FixedBaseTable, exponents: Rows) -> Rows:
        """`base ** exponent mod modulus` for each exponent: one product for each of its bytes, no exponentiation."""
        ...

    def join(self, residues: Rows, modulus: int, others: Rows, coprime: int) -> Rows:
        """The integers below `modulus * coprime` with these residues modulo each (Chinese remainder theorem)."""
        ...
