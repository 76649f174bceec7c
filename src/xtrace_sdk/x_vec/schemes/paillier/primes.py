"""Generates random primes of the forms that keys need."""

import secrets

from gmpy2 import gcd, is_prime, primorial

_SMALL_PRIMES = int(primorial(4000))
MILLER_RABIN_ROUNDS = 40
"""A composite passes with a probability below 4^-40, and far less if random (Damgård, Landrock, Pomerance)."""


def uniform(lowest: int, highest: int) -> int:
    """Returns a uniform integer between the two, inclusive."""
    return lowest + secrets.randbelow(highest - lowest + 1)


def is_random_prime(candidate: int) -> bool:
    """Whether a randomly chosen candidate is prime; first tries a quick division by small primes."""
    if candidate > _SMALL_PRIMES and gcd(candidate, _SMALL_PRIMES) != 1:
        return False
    return is_prime(candidate, 1) and is_prime(candidate, MILLER_RABIN_ROUNDS)


def prime_of_bits(bits: int) -> int:
    """Returns a uniform prime of exactly this many bits."""
    while True:
        candidate = uniform(1 << (bits - 1), (1 << bits) - 1) | 1
        if is_random_prime(candidate):
            return candidate


def smallest_with_two_top_bits(bits: int) -> int:
    """Returns the smallest integer of this many bits with its two top bits set; products of two have 2·bits bits."""
    return 3 << (bits - 2)


def prime_with_two_top_bits(bits: int) -> int:
    """Returns a uniform prime of exactly this many bits with its two top bits set."""
    while True:
        candidate = uniform(smallest_with_two_top_bits(bits), (1 << bits) - 1) | 1
        if is_random_prime(candidate):
            return candidate


def prime_with_subgroup(bits: int, order: int) -> int:
    """Returns a prime p = 2·order·k + 1 of exactly this many bits, with its two top bits set and k uniform."""
    lowest = -(-(smallest_with_two_top_bits(bits) - 1) // (2 * order))
    highest = ((1 << bits) - 2) // (2 * order)
    while True:
        candidate = 2 * order * uniform(lowest, highest) + 1
        if is_random_prime(candidate):
            return candidate


def far_apart(p: int, q: int, bits: int) -> bool:
    """Whether |p − q| > 2^(bits − 100), so that Fermat's method does not find them (FIPS 186-5, A.1.3)."""
    return abs(p - q) > 1 << (bits - 100)
