"""Moduli that were made badly are factored; good ones are not."""

import secrets
from math import gcd, isqrt

import pytest

from support.weak_keys import good_prime, prime_near, prime_of_the_broken_generator, random_prime
from xtrace_sdk.x_vec.upkeep.audit import factors
from xtrace_sdk.x_vec.upkeep.audit.key_audit import FERMAT_STEPS


def test_small_primes_are_found() -> None:
    assert factors.small_factor(1_000_003 * good_prime(), 1 << 20) == 1_000_003
    assert factors.small_factor(good_prime(), 1 << 20) == 1


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shared_factors_are_those_of_all_pairs(count: int) -> None:
    primes = [prime_near(secrets.randbits(128)) for _ in range(3)]
    moduli = [secrets.choice(primes) * prime_near(secrets.randbits(128)) for _ in range(count)]
    expected = [
        max(gcd(n, m) for j, m in enumerate(moduli) if j != i) if count > 1 else 1 for i, n in enumerate(moduli)
    ]
    assert factors.shared_factors(moduli) == expected


def test_a_modulus_that_shares_both_primes_is_seen_whole() -> None:
    p, q, r = (prime_near(secrets.randbits(128)) for _ in range(3))
    assert factors.shared_factors([p * q, q * r, r * p]) == [p * q, q * r, r * p]


def test_primes_that_differ_by_what_is_claimed_are_found() -> None:
    p = good_prime()
    bits = factors.fermat_difference_bits(p * p, FERMAT_STEPS)
    assert factors.fermat_divisor(p * prime_near(p + (1 << bits) - 10_000), FERMAT_STEPS) != 1
    assert factors.fermat_divisor(p * prime_near(p + (1 << (bits + 2))), FERMAT_STEPS) == 1


@pytest.mark.parametrize(("u", "v"), [(3, 2), (7, 5), (15, 14)])
def test_primes_in_a_simple_ratio_are_found(u: int, v: int) -> None:
    p = good_prime()
    q = prime_near(p * u // v + isqrt(isqrt(p)))
    assert factors.fermat_divisor(p * q, FERMAT_STEPS) in (p, q)


def test_the_broken_generator_is_recognised_and_nothing_else() -> None:
    assert factors.has_roca_form(prime_of_the_broken_generator() * prime_of_the_broken_generator())
    assert not factors.has_roca_form(prime_of_the_broken_generator() * random_prime())
    assert factors.roca_false_alarm() < 1e-9
