"""Factors n with an element whose order modulo one prime is small or smooth.

If x^u = 1 modulo p and not modulo q, then gcd(x^u − 1, n) = p. The order u is not known, but many candidates are tried
at once. Three attacks are this one: Pollard's p − 1 (any x: its order divides p − 1), Williams' p + 1 (the same among
the Lucas sequences, whose orders may divide p + 1), and the search for a small noise group, from what is left of a
ciphertext when it is raised to the n-th power. Each returns a divisor of n: 1 if nothing was found, n if both primes
were found at once and could not be separated.

Stage 1 finds an order that is a product of prime powers up to a bound. Stage 2 finds every odd order below 2^bits in
about 2^(bits/2) operations (Coron, Joux, Mandal, Naccache and Tibouchi, PKC 2011, section 4). A walk without memory
(kangaroo) is not an alternative: choosing its next step, or seeing two of them meet, takes knowing p already.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from math import isqrt, prod

import numpy as np
from gmpy2 import gcd, invert, lucasv_mod, mpz, powmod

_PRIMES_AT_ONCE = 1000

Power = Callable[[mpz, int, int], mpz]
"""Returns the power of an element modulo n."""


def divisor_by_smooth_order(n: int, element: int, bound: int) -> tuple[int, mpz]:
    """Runs stage 1: returns `(divisor, the element raised to every prime power up to the bound)`."""
    return _raised(n, mpz(element), bound, powmod, unit=1)


def divisor_by_smooth_lucas_order(n: int, start: int, bound: int) -> int:
    """Stage 1 of Williams' p + 1 attack: half of all values to start from see p + 1, the others p − 1."""
    return _raised(n, mpz(start), bound, lambda x, exponent, modulus: lucasv_mod(x, 1, exponent, modulus), unit=2)[0]


def _raised(n: int, element: mpz, bound: int, power: Power, unit: int) -> tuple[int, mpz]:
    powers = prime_powers(bound)
    for start in range(0, len(powers), _PRIMES_AT_ONCE):
        some = powers[start : start + _PRIMES_AT_ONCE]
        raised = power(element, prod(some), n)
        if gcd(raised - unit, n) != 1:
            return _first_divisor((x - unit for x in _one_by_one(n, element, some, power)), n), raised
        element = raised
    return 1, element


def _one_by_one(n: int, element: mpz, exponents: Iterable[int], power: Power) -> Iterator[mpz]:
    for exponent in exponents:
        element = power(element, exponent, n)
        yield element


@cache
def prime_powers(bound: int) -> Sequence[int]:
    """Returns, for each prime up to the bound, its highest power up to the bound."""
    is_prime = np.ones(bound + 1, dtype=np.bool_)
    is_prime[:2] = False
    for value in range(2, isqrt(bound) + 1):
        if is_prime[value]:
            is_prime[value * value :: value] = False
    return [_highest_power(int(prime), bound) for prime in np.flatnonzero(is_prime)]


def _highest_power(prime: int, bound: int) -> int:
    power = prime
    while power * prime <= bound:
        power *= prime
    return power


def giant_steps(bits: int) -> int:
    """Returns the number of baby steps, and of giant steps, that cover every odd order below 2^bits."""
    return isqrt(1 << (bits - 1)) + 1


def divisor_by_odd_order(n: int, element: int, bits: int) -> int:
    """Stage 2: finds every odd order below 2^bits.

    An odd order is u = 2·(i·B + j) + 1 with i, j < B. The product over j of 1 − x^u is, with q = x², the q-Pochhammer
    symbol (x·q^(iB); q)_B; it is divisible by p if and only if one of these u is an order. The q-binomial theorem
    writes it as a polynomial in x·q^(iB), which takes its values at a geometric progression: all of them come out of
    one long multiplication (Bluestein).
    """
    x, steps = mpz(element), giant_steps(bits)
    if gcd(x, n) != 1:
        return int(gcd(x, n))
    q = x * x % n
    factorials = _q_factorials(q, steps, n)
    if gcd(factorials[-1], n) != 1:  # an order of at most B, and no polynomial: its coefficients divide by this
        return _first_divisor((1 - power for power in _progression(q, q, steps, n)), n)
    giant = powmod(q, steps, n)
    values = _pochhammer_symbols(x, q, giant, factorials, n)
    if gcd(_product(values, n), n) == 1:
        return 1
    for value, start in zip(values, _progression(x, giant, steps, n), strict=True):
        if gcd(value, n) != 1:
            divisor = _first_divisor((1 - power for power in _progression(start, q, steps, n)), n)
            if divisor != n:
                return divisor
    return n


def _q_factorials(q: mpz, count: int, n: int) -> list[mpz]:
    """(1 − q)·(1 − q²)⋯(1 − q^k) for k = 0, …, count."""
    factorials = [mpz(1)]
    for power in _progression(q, q, count, n):
        factorials.append(factorials[-1] * (1 - power) % n)
    return factorials


def _pochhammer_symbols(x: mpz, q: mpz, giant: mpz, factorials: Sequence[mpz], n: int) -> list[mpz]:
    """(x·Q^i; q)_B for i = 0, …, B − 1 and Q = q^B, each but for a factor that is invertible.

    (a; q)_B is Σ (−a)^k · q^C(k,2) / ((q; q)_k · (q; q)_(B−k)) over k, times (q; q)_B. At a = x·Q^i, with
    i·k = C(i+k, 2) − C(i, 2) − C(k, 2), the sum is Q^(−C(i,2)) times Σ w_k · Q^C(i+k,2): a correlation.
    """
    steps = len(factorials) - 1
    inverses = _inverses(factorials, n)
    weights = _triangular_powers(q * invert(giant, n) % n, steps + 1, n, ratio=-x)
    weights = [w * inverses[k] % n * inverses[steps - k] % n for k, w in enumerate(weights)]
    return _correlation(weights, _triangular_powers(giant, 2 * steps, n), n)


def _inverses(factorials: Sequence[mpz], n: int) -> list[mpz]:
    """Returns the inverse of each with a single inversion, by products up and down the list."""
    prefixes = [mpz(1)]
    for value in factorials:
        prefixes.append(prefixes[-1] * value % n)
    rest, inverses = invert(prefixes[-1], n), []
    for value, prefix in zip(reversed(factorials), reversed(prefixes[:-1]), strict=True):
        inverses.append(rest * prefix % n)
        rest = rest * value % n
    return inverses[::-1]


def _triangular_powers(base: mpz, count: int, n: int, ratio: int | mpz = 1) -> list[mpz]:
    """ratio^k · base^C(k,2) for k = 0, …, count − 1."""
    values, factor = [mpz(1)], mpz(ratio)
    for _ in range(count - 1):
        values.append(values[-1] * factor % n)
        factor = factor * base % n
    return values


def _correlation(weights: Sequence[mpz], series: Sequence[mpz], n: int) -> list[mpz]:
    """Σ weights[k]·series[i+k] modulo n for every i, by one multiplication of long integers."""
    width = (2 * n.bit_length() + len(weights).bit_length()) // 8 + 1
    packed = _packed(reversed(weights), width) * _packed(series, width)
    data = memoryview(packed.to_bytes(width * (len(weights) + len(series)), "little"))
    first, last = len(weights) - 1, len(series)
    return [mpz.from_bytes(data[width * i : width * (i + 1)], "little") % n for i in range(first, last)]


def _packed(values: Iterable[mpz], width: int) -> mpz:
    return mpz.from_bytes(b"".join([value.to_bytes(width, "little") for value in values]), "little")


def _progression(first: mpz, ratio: mpz, count: int, n: int) -> Iterator[mpz]:
    value = first
    for _ in range(count):
        yield value
        value = value * ratio % n


def _product(values: Iterable[mpz], n: int) -> mpz:
    product = mpz(1)
    for value in values:
        product = product * value % n
    return product


def _first_divisor(values: Iterable[mpz], n: int) -> int:
    """Returns the first divisor of n between 1 and n that a value shares with it, else n."""
    return next((int(divisor) for value in values if 1 < (divisor := gcd(value, n)) < n), n)
