"""Factors badly generated moduli, individually or several together."""

from collections.abc import Sequence
from functools import cache
from math import gcd, isqrt, prod

from gmpy2 import gcd as mpz_gcd
from gmpy2 import is_square, mpz, primorial

_RATIO_BOUND = 16
_ROCA_GENERATOR = 65537
_ROCA_PRIMES = [prime for prime in range(3, 354) if all(prime % divisor for divisor in range(2, isqrt(prime) + 1))]
"""The prime factors of M for primes of 496 bits; M for longer primes has all of them, and more."""


def small_factor(n: int, bound: int) -> int:
    """Returns the product of the primes up to the bound that divide n; 1 if none does."""
    return int(mpz_gcd(_primorial(bound), n))


@cache
def _primorial(bound: int) -> mpz:
    return primorial(bound)


def shared_factors(moduli: Sequence[int]) -> list[int]:
    """Returns the largest factor that each modulus shares with the others, 1 if none.

    Bernstein's batch gcd: with P the product of all, gcd(n, (P mod n²) / n), by a product tree and a remainder tree.
    """
    tree = [[mpz(n) for n in moduli]]
    while len(tree[-1]) > 1:
        tree.append([prod(tree[-1][i : i + 2], start=mpz(1)) for i in range(0, len(tree[-1]), 2)])
    remainders = tree.pop()
    while tree:
        remainders = [remainders[i // 2] % (n * n) for i, n in enumerate(tree.pop())]
    return [int(mpz_gcd(remainder // n, n)) for remainder, n in zip(remainders, moduli, strict=True)]


def fermat_divisor(n: int, steps: int) -> int:
    """Returns a divisor of n if its primes are close together or nearly in a ratio of two small integers; else 1.

    Fermat's method searches for a such that a² − n is a square, upwards from √n; Lehman's applies it to 4·u·v·n for the
    ratio u/v. The ratio 1 gets `steps` steps, every other one a hundredth of that.
    """
    divisor = _fermat(n, n, steps)
    for u in range(1, _RATIO_BOUND):
        for v in range(1, u):
            if divisor == 1 and gcd(u, v) == 1:
                divisor = _fermat(4 * u * v * n, n, steps // 100)
    return divisor


def fermat_difference_bits(n: int, steps: int) -> int:
    """Returns the b for which `fermat_divisor` certainly finds primes that differ by at most 2^b.

    (p + q)/2 − √n = (√p − √q)²/2 is at most the number of steps if p − q is at most √(2·steps)·2·n^(1/4).
    """
    return (n.bit_length() - 1 + 2 * (steps.bit_length() - 1) + 6) // 4


def _fermat(multiple: int, n: int, steps: int) -> int:
    root = mpz(isqrt(multiple - 1) + 1)
    square = root * root - multiple
    for _ in range(steps):
        if is_square(square):
            divisor = mpz_gcd(root - isqrt(int(square)), n)
            if 1 < divisor < n:
                return int(divisor)
        square += 2 * root + 1
        root += 1
    return 1


def has_roca_form(n: int) -> bool:
    """Whether n is a power of 65537 modulo each odd prime up to 353, as primes k·M + (65537^a mod M) make it.

    Nemec, Sys, Svenda, Klinec and Matyas, "The Return of Coppersmith's Attack", CCS 2017. Other moduli are so with
    probability `roca_false_alarm`.
    """
    return all(n % prime in _generated(prime) for prime in _ROCA_PRIMES)


def roca_false_alarm() -> float:
    """The probability that a random modulus without small factors has the form."""
    return prod(len(_generated(prime)) / (prime - 1) for prime in _ROCA_PRIMES)


@cache
def _generated(prime: int) -> frozenset[int]:
    return frozenset(pow(_ROCA_GENERATOR, exponent, prime) for exponent in range(prime - 1))
