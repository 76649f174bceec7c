"""Ring elements as residues and as their values at the odd powers of a root of unity, in NumPy.

An element is `(P, DEGREE)` uint32: its residues modulo the first P primes, each below its prime. Value i is that at
psi^(2 r + 1), where r is i with its ten bits reversed.

- Longa, Naehrig, "Speeding up the number theoretic transform for faster ideal lattice-based cryptography", CANS 2016.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from xtrace_core.lattice.parameters import DEGREE, PRIMES

Elements = NDArray[np.uint32]
"""Ring elements: shape `(..., P, DEGREE)`."""
Fractions = NDArray[np.uint64]
"""Multiples of 2^-64, modulo 1."""


def _root(prime: int) -> int:
    """Returns psi: the power of the smallest integer that has order 2 DEGREE."""
    powers = (pow(base, (prime - 1) // (2 * DEGREE), prime) for base in range(2, prime))
    return next(power for power in powers if pow(power, DEGREE, prime) == prime - 1)


def _reversed_powers(root: int, prime: int) -> list[int]:
    return [pow(root, int(f"{i:010b}"[::-1], 2), prime) for i in range(DEGREE)]


ROOTS: Final = [_root(prime) for prime in PRIMES]
POWERS: Final = np.array([_reversed_powers(root, q) for root, q in zip(ROOTS, PRIMES, strict=True)], np.uint64)
INVERSE_POWERS: Final = np.array(
    [_reversed_powers(pow(root, -1, q), q) for root, q in zip(ROOTS, PRIMES, strict=True)], np.uint64
)
MODULI: Final = np.array(PRIMES, np.uint64)[:, None]
"""As a column, for the residues of an element."""
_DEGREE_INVERSES: Final = np.array([[pow(DEGREE, -1, q)] for q in PRIMES], np.uint64)
_COFACTOR_INVERSES: Final = np.array([[pow(PRIMES[1 - t], -1, q)] for t, q in enumerate(PRIMES)], np.uint64)
_SCALES: Final = np.array([[2**64 // q] for q in PRIMES], np.uint64)


def residues(coefficients: NDArray[np.int64], primes: int = len(PRIMES)) -> Elements:
    """Returns the elements `(..., primes, DEGREE)` with these coefficients, `(..., DEGREE)`."""
    reduced: Elements = (coefficients[..., None, :] % MODULI[:primes].astype(np.int64)).astype(np.uint32)
    return reduced


def forward(coefficients: Elements) -> Elements:
    """Returns the values of elements with these coefficients."""
    count = coefficients.shape[-2]
    q, powers, values = MODULI[:count, :, None], POWERS[:count], coefficients.astype(np.uint64)
    blocks = 1
    while blocks < DEGREE:
        pairs = values.reshape(*values.shape[:-1], blocks, 2, DEGREE // (2 * blocks))
        first = pairs[..., 0, :].copy()
        second = pairs[..., 1, :] * powers[:, blocks : 2 * blocks, None] % q
        pairs[..., 0, :], pairs[..., 1, :] = (first + second) % q, (first + q - second) % q
        blocks *= 2
    return values.astype(np.uint32)


def inverse(values: Elements) -> Elements:
    """Returns the coefficients of elements with these values."""
    count = values.shape[-2]
    q, powers, coefficients = MODULI[:count, :, None], INVERSE_POWERS[:count], values.astype(np.uint64)
    blocks = DEGREE // 2
    while blocks:
        pairs = coefficients.reshape(*values.shape[:-1], blocks, 2, DEGREE // (2 * blocks))
        first, second = pairs[..., 0, :].copy(), pairs[..., 1, :].copy()
        pairs[..., 0, :] = (first + second) % q
        pairs[..., 1, :] = (first + q - second) % q * powers[:, blocks : 2 * blocks, None] % q
        blocks //= 2
    reduced: Elements = (coefficients * _DEGREE_INVERSES[:count] % MODULI[:count]).astype(np.uint32)
    return reduced


def products(one: Elements, other: Elements, axis: int) -> Elements:
    """Returns the sums of the products of values along an axis before the residues."""
    q = MODULI[: one.shape[-2]]
    reduced = one.astype(np.uint64) * other % q
    sums: Elements = (reduced.sum(axis) % q).astype(np.uint32)
    return sums


def fractions(coefficients: Elements) -> Fractions:
    """Returns coefficients modulo both primes as fractions of Q. Its rounding is part of the format."""
    parts = coefficients * _COFACTOR_INVERSES % MODULI * _SCALES
    sums: Fractions = parts.sum(axis=-2, dtype=np.uint64)
    return sums


def rounded(fraction: Fractions, bits: int) -> Fractions:
    """Returns fractions rounded to multiples of 2^-bits, modulo 1, as integers."""
    return (fraction + np.uint64(1 << (63 - bits))) >> np.uint64(64 - bits)
