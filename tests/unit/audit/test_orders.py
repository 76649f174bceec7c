"""Factoring with an element of small or smooth order, against the definition and at the ends of what is covered."""

from math import prod

import pytest
from gmpy2 import mpz, powmod

from support.crypto_support import first_prime_from
from support.weak_keys import good_prime, smooth_prime
from xtrace_sdk.x_vec.upkeep.audit import orders
from xtrace_sdk.x_vec.upkeep.audit.key_audit import FIRST_ORDER_BITS, P_MINUS_1_BOUND, P_PLUS_1_BOUND, P_PLUS_1_STARTS


def prime_with_order(order: int, bits: int = 256) -> int:
    """A prime p with p − 1 divisible by the order."""
    return first_prime_from((3 << (bits - 2)) // (2 * order) * 2 * order + 1, 2 * order)


def element_of_order(order: int, p: int, q: int) -> int:
    """An element of that order modulo p, and of a large one modulo q."""
    for base in range(2, 100):
        element = pow(base, (p - 1) // order, p)
        if element != 1:
            return element * q * pow(q, -1, p) % (p * q) + base * p * pow(p, -1, q) % (p * q)
    raise AssertionError


def test_the_values_are_those_of_the_definition() -> None:
    n, x, steps = 1_000_003 * 1_000_033, 123_456_789, 7
    q = x * x % n
    giant = powmod(q, steps, n)
    factorials = orders._q_factorials(mpz(q), steps, n)
    values = orders._pochhammer_symbols(mpz(x), mpz(q), giant, factorials, n)
    assert len(values) == steps
    for i, value in enumerate(values):
        symbol = prod(1 - pow(x, 2 * (i * steps + j) + 1, n) for j in range(steps)) % n
        known_factor = factorials[-1] * invert_power(giant, i * (i - 1) // 2, n)
        assert value * known_factor % n == symbol


def invert_power(base: mpz, exponent: int, n: int) -> mpz:
    return powmod(powmod(base, exponent, n), -1, n)


@pytest.mark.parametrize("bits", [4, 9, 12, 17])
def test_the_largest_order_that_is_covered_is_found_and_the_next_is_not(bits: int) -> None:
    steps = orders.giant_steps(bits)
    assert 2 * steps * steps >= 2**bits
    largest = 2 * steps * steps - 1
    while not orders_exactly(largest):
        largest -= 2
    beyond = first_prime_from(2 * steps * steps + 1)
    q = prime_with_order(first_prime_from(2**60 + 1))
    for order, found in ((largest, True), (beyond, False)):
        p = prime_with_order(order)
        divisor = orders.divisor_by_odd_order(p * q, element_of_order(order, p, q), bits)
        assert divisor == (p if found else 1)


def orders_exactly(order: int) -> bool:
    return first_prime_from(order) == order


@pytest.mark.parametrize("order", [3, 5, 7, 15, 97, 1_000_003])
def test_orders_below_the_number_of_steps_and_composite_ones_are_found_too(order: int) -> None:
    p, q = prime_with_order(order), prime_with_order(first_prime_from(2**60 + 1))
    assert orders.divisor_by_odd_order(p * q, element_of_order(order, p, q) % (p * q), 20) == p


def test_equal_orders_modulo_both_primes_are_found_but_do_not_factor() -> None:
    order = 1_000_003
    p = prime_with_order(order)
    q = first_prime_from(p + 2 * order, 2 * order)
    n = p * q
    element = pow(2, (p - 1) // order, p) * q * pow(q, -1, p) + pow(2, (q - 1) // order, q) * p * pow(p, -1, q)
    assert orders.divisor_by_odd_order(n, element % n, 20) == n


def test_orders_in_the_same_giant_step_are_told_apart() -> None:
    low = first_prime_from(900_001)
    high = first_prime_from(low + 2)
    p, q = prime_with_order(low), prime_with_order(high)
    element = pow(2, (p - 1) // low, p) * q * pow(q, -1, p) + pow(3, (q - 1) // high, q) * p * pow(p, -1, q)
    assert orders.divisor_by_odd_order(p * q, element % (p * q), 20) in (p, q)


def test_smooth_p_minus_1_falls_at_the_bounds_that_users_get() -> None:
    p = smooth_prime(1, P_MINUS_1_BOUND)
    assert orders.divisor_by_smooth_order(p * good_prime(), 3, P_MINUS_1_BOUND)[0] == p


def test_p_minus_1_with_one_large_prime_falls_to_stage_2() -> None:
    last = first_prime_from((1 << FIRST_ORDER_BITS) - 1001)
    p = smooth_prime(1, 1 << 12, last)
    n = p * good_prime()
    divisor, raised = orders.divisor_by_smooth_order(n, 3, 1 << 12)
    assert divisor == 1
    assert orders.divisor_by_odd_order(n, int(raised), FIRST_ORDER_BITS) == p


def test_smooth_p_plus_1_falls() -> None:
    p = smooth_prime(-1, P_PLUS_1_BOUND)
    n = p * good_prime()
    found = [orders.divisor_by_smooth_lucas_order(n, start, P_PLUS_1_BOUND) for start in P_PLUS_1_STARTS]
    # A start sees p + 1 if its square less 4 is no square modulo p.
    assert found == [p if pow(start**2 - 4, (p - 1) // 2, p) == p - 1 else 1 for start in P_PLUS_1_STARTS]


def test_both_primes_smooth_are_told_apart_or_said_to_be_met_together() -> None:
    p, q = smooth_prime(1, 1 << 12), smooth_prime(1, 1 << 11)
    assert orders.divisor_by_smooth_order(p * q, 3, 1 << 12)[0] in (p, q, p * q)


def test_every_prime_power_up_to_the_bound_is_there_once() -> None:
    assert list(orders.prime_powers(30)) == [16, 27, 25, 7, 11, 13, 17, 19, 23, 29]
