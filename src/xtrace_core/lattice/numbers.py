"""What follows from the primes: roots of unity and their powers, products of residues, fractions of Q."""

from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xtrace_core.lattice.interface import Coefficients, Elements
from xtrace_core.lattice.parameters import DEGREE, PRIMES

Fractions: TypeAlias = NDArray[np.uint64]
"""Multiples of 2^-64, modulo 1."""


def _root(prime: int) -> int:
    """Returns psi: the power of the smallest integer that has order 2 DEGREE."""
    powers = (pow(base, (prime - 1) // (2 * DEGREE), prime) for base in range(2, prime))
    return next(power for power in powers if pow(power, DEGREE, prime) == prime - 1)


def _reversed_powers(root: int, prime: int) -> list[int]:
    return [pow(root, int(f"{i:010b}"[::-1], 2), prime) for i in range(DEGREE)]


ROOTS: Final = [_root(prime) for prime in PRIMES]
"""psi of each prime."""
POWERS: Final = np.array([_reversed_powers(root, q) for root, q in zip(ROOTS, PRIMES, strict=True)], np.uint64)
"""psi^r for each i, where r is i with its ten bits reversed."""
INVERSE_POWERS: Final = np.array(
    [_reversed_powers(pow(root, -1, q), q) for root, q in zip(ROOTS, PRIMES, strict=True)], np.uint64
)
MODULI: Final = np.array(PRIMES, np.uint64)[:, None]
"""As a column, for the residues of an element."""
DEGREE_INVERSES: Final = np.array([[pow(DEGREE, -1, q)] for q in PRIMES], np.uint64)
COFACTOR_INVERSES: Final = np.array([[pow(PRIMES[1 - t], -1, q)] for t, q in enumerate(PRIMES)], np.uint64)
SCALES: Final = np.array([[2**64 // q] for q in PRIMES], np.uint64)


def residues(coefficients: Coefficients, primes: int = len(PRIMES)) -> Elements:
    """Returns the elements `(..., primes, DEGREE)` with these coefficients."""
    reduced: Elements = (coefficients[..., None, :] % MODULI[:primes].astype(np.int64)).astype(np.uint32)
    return reduced


def products(one: Elements, other: Elements, axis: int) -> Elements:
    """Returns the sums of the products of values along an axis before the residues."""
    q = MODULI[: one.shape[-2]]
    reduced = one.astype(np.uint64) * other % q
    sums: Elements = (reduced.sum(axis) % q).astype(np.uint32)
    return sums


def fractions(coefficients: Elements) -> Fractions:
    """Returns coefficients modulo both primes as fractions of Q. Its rounding is part of the format."""
    parts = coefficients * COFACTOR_INVERSES % MODULI * SCALES
    sums: Fractions = parts.sum(axis=-2, dtype=np.uint64)
    return sums


def rounded(fraction: Fractions, bits: int) -> Fractions:
    """Returns fractions rounded to multiples of 2^-bits, modulo 1, as integers."""
    return (fraction + np.uint64(1 << (63 - bits))) >> np.uint64(64 - bits)
