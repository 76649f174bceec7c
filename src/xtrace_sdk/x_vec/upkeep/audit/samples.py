"""Examines what ciphertexts and nonces reveal about the noise.

With g = 1 + n, the message disappears modulo n: (1 + n)^m = 1 + m·n. So a ciphertext modulo n is its noise modulo n,
called a *residue* here, and everything below concerns residues. Good noise is uniform in a group so large that none of
these patterns occurs by chance.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, combinations_with_replacement
from math import isqrt, log, sqrt

from gmpy2 import gcd, jacobi, mpz, powmod

FALSE_ALARM = 2.0**-60
"""The maximum probability with which a statistic reports good noise as biased."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A stored chunk's encrypted vector, and its nonce if it has one."""

    ciphertexts: tuple[int, ...]
    nonce: bytes | None


def without_noise(residues: Iterable[int], n: int) -> list[int]:
    """Returns the residues whose noise is 1 modulo n or modulo one of its primes, so that the message is readable."""
    return [residue for residue in residues if gcd(residue - 1, n) != 1]


def shared_noise(residues: Sequence[int], n: int) -> int:
    """Returns a common factor of n and the differences between residues: 1, or n for equal noise, or a prime of n.

    The quotient of two ciphertexts with equal noise reveals the difference of their messages. If the noise is equal
    modulo only one prime, n is factored too.
    """
    if len(set(residues)) < len(residues):
        return n
    product = mpz(1)
    for one, other in combinations(residues, 2):
        product = product * (one - other) % n
    return int(gcd(product, n))


def related_products(residues: Collection[int], n: int) -> int:
    """Returns how many products of two residues (without duplicates) are also products of two others.

    Noise h^a with short exponents a has many, for any h; see `related_exponent_bits`.
    """
    values = [mpz(residue) for residue in sorted(set(residues))]
    products = [one * other % n for one, other in combinations_with_replacement(values, 2)]
    return len(products) - len(set(products))


def related_exponent_bits(residues: int) -> int:
    """Returns the length of exponents up to which `related_products` detects them with this number of residues.

    N products, whose exponents are below 2^(b+1), coincide N²/2^(b+2) times on average; where that is 20, they do not
    even once with a probability of about 2^-28.
    """
    products = residues * (residues + 1) // 2
    return max(0, (products * products // 20).bit_length() - 3)


def short_root_residues(residues: Collection[int], n: int, bound: int) -> list[int]:
    """Returns the residues that are r^n or −r^n for an r up to the bound."""
    powers = {1: mpz(1)}
    for value in range(2, bound + 1):
        factor = next((d for d in range(2, isqrt(value) + 1) if not value % d), value)
        powers[value] = powmod(value, n, n) if factor == value else powers[factor] * powers[value // factor] % n
    known = {int(power) for power in powers.values()}
    return [residue for residue in residues if residue in known or n - residue in known]


def biased_bits(values: Sequence[int], bits: int) -> list[int]:
    """The positions below `bits` where ones are too many or too few for uniform values.

    By Hoeffding's inequality, ones differ from half of m values by more than √(m·ln(2/ε)/2) with probability ε at most;
    ε is `FALSE_ALARM` divided by the number of positions. Fewer than 84 values and more show nothing.
    """
    bound = sqrt(len(values) * log(2 * bits / FALSE_ALARM) / 2)
    ones = (sum(value >> position & 1 for value in values) for position in range(bits))
    return [position for position, count in enumerate(ones) if abs(count - len(values) / 2) > bound]


def enough_for_bias(bits: int) -> int:
    """The number of values that `biased_bits` needs to detect a bit that never changes."""
    return int(2 * log(2 * bits / FALSE_ALARM)) + 1


def jacobi_symbols(residues: Iterable[int], n: int) -> list[int]:
    """Returns the Jacobi symbol of each residue modulo n, which anyone can compute: 1, −1, or 0 for a common factor."""
    return [jacobi(residue, n) for residue in residues]
