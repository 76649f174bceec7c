"""Random primes of the shapes that the keys need."""

import secrets

from gmpy2 import gcd, is_prime, primorial

_SMALL_PRIMES = int(primorial(4000))
MILLER_RABIN_ROUNDS = 40
"""A composite survives with probability below 4^-40, far less for random candidates (Damgård, Landrock, Pomerance)."""


def uniform(lowest: int, highest: int) -> int:
    """A uniform integer between the two, both included."""
    return lowest + secrets.randbelow(highest - lowest + 1)


def is_random_prime(candidate: int) -> bool:
    """Whether a randomly chosen candidate is prime; a quick division by small primes goes first."""
    if candidate > _SMALL_PRIMES and gcd(candidate, _SMALL_PRIMES) != 1:
        return False
    return is_prime(candidate, 1) and is_prime(candidate, MILLER_RABIN_ROUNDS)


def prime_of_bits(bits: int) -> int:
    """A uniform prime of exactly this many bits."""
    while True:
        candidate = uniform(1 << (bits - 1), (1 << bits) - 1) | 1
        if is_random_prime(candidate):
            return candidate


def smallest_with_two_top_bits(bits: int) -> int:
    """The smallest integer of this many bits whose two top bits are set; products of two such have 2·bits bits."""
    return 3 << (bits - 2)


def prime_with_two_top_bits(bits: int) -> int:
    """A uniform prime of exactly this many bits whose two top bits are set."""
    while True:
        candidate = uniform(smallest_with_two_top_bits(bits), (1 << bits) - 1) | 1
        if is_random_prime(candidate):
            return candidate


def prime_with_subgroup(bits: int, order: int) -> int:
    """A prime p = 2·order·k + 1 of exactly this many bits, two top bits set, k uniform where that holds."""
    lowest = -(-(smallest_with_two_top_bits(bits) - 1) // (2 * order))
    highest = ((1 << bits) - 2) // (2 * order)
    while True:
        candidate = 2 * order * uniform(lowest, highest) + 1
        if is_random_prime(candidate):
            return candidate


def far_apart(p: int, q: int, bits: int) -> bool:
    """Whether |p − q| > 2^(bits − 100), so that Fermat's method does not find them (FIPS 186-5, A.1.3)."""
    return abs(p - q) > 1 << (bits - 100)
