"""Why `alpha_len` has a lower bound: with small subgroups n falls to anybody who sees one ciphertext.

Coron, Joux, Mandal, Naccache and Tibouchi, "Cryptanalysis of the RSA Subgroup Assumption from TCC 2005", PKC 2011.
c^n mod n² has no message any more: modulo p it is an element of the subgroup of order u_p. The attack itself is in the
product, because `xtrace context audit` tries it on every key.
"""

import math

import pytest
from gmpy2 import powmod

from support import reference_paillier as reference
from support.crypto_support import random_vectors, toy_lookup_client
from xtrace_sdk.errors import WeakParameters
from xtrace_sdk.x_vec.schemes.paillier.lookup import MIN_ALPHA_LEN, PaillierLookupClient
from xtrace_sdk.x_vec.upkeep.audit.orders import divisor_by_odd_order, giant_steps


def divisor(n: int, ciphertext: int, order_bits: int) -> int:
    """What somebody finds who knows n and one ciphertext, and looks for orders of so many bits."""
    return divisor_by_odd_order(n, int(powmod(ciphertext % n, n, n)), order_bits)


@pytest.mark.parametrize("order_bits", [12, 16, 20, 24])
def test_small_subgroups_give_the_key_to_whoever_sees_one_ciphertext(order_bits: int) -> None:
    owner = toy_lookup_client(order_bits, 256, 64)
    vector = random_vectors(1, 64)[0]
    ciphertext = owner.encrypt_vec_one(vector)[0]

    p = divisor(int(owner.public_key()["n"]), ciphertext, order_bits)

    assert {p, owner.n // p} == {side.prime for side in owner._sides}
    # With the factors everything is read; no nonce, no noise key needed.
    message = reference.Key(p, owner.n // p, b"").decrypt(ciphertext)
    assert reference.is_sum_of_two(message, 64, "base4")
    assert message == reference.number_of(vector.tolist(), 4)
    # The work grows with the root of the order, not with the order: so many baby steps, and as many giant ones.
    assert giant_steps(order_bits) <= 2 ** (order_bits / 2)


def test_the_attack_does_not_find_an_order_beyond_its_reach() -> None:
    owner = toy_lookup_client(40, 256, 8)
    assert divisor(owner.n, owner.encrypt_vec_one([1] * 8)[0], 12) == 1


def test_the_raised_ciphertext_holds_nothing_of_the_message() -> None:
    owner = toy_lookup_client(20, 256, 8)
    raised = [powmod(owner.encrypt_vec_one([bit] * 8)[0], owner.n, owner.n**2) for bit in (0, 1)]
    for side in owner._subgroups:
        assert all(powmod(y, side.order, side.square) == 1 for y in raised)


def security_bits_of_factoring(modulus_bits: int) -> float:
    """The number field sieve's cost by NIST's estimate (Implementation Guidance for FIPS 140-2, section 7.5)."""
    x = modulus_bits * math.log(2)
    return (1.923 * math.cbrt(x * math.log(x) ** 2) - 4.69) / math.log(2)


def test_the_smallest_alpha_len_costs_the_attacker_what_factoring_the_smallest_modulus_does() -> None:
    order_bits = MIN_ALPHA_LEN // 2
    steps_log2 = order_bits / 2  # two times 2^(bits/2) elements, as counted above, and as many to keep at hand
    assert steps_log2 == 112
    assert steps_log2 >= math.floor(security_bits_of_factoring(2 * 1024))
    memory_bytes_log2 = steps_log2 + math.log2(2 * 1024 / 8)
    assert memory_bytes_log2 == 120


@pytest.mark.parametrize("order_bits", [12, 16, 20, 25, 100, 222])
def test_no_parameter_makes_a_key_with_such_subgroups(order_bits: int) -> None:
    with pytest.raises(WeakParameters, match="from a ciphertext, a smaller subgroup"):
        PaillierLookupClient.generate(8, 256, 2 * order_bits, insecure_allow_weak_parameters=True)
