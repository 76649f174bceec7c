"""Why `alpha_len` has a lower bound: with small subgroups n falls to anybody who sees one ciphertext.

Coron, Joux, Mandal, Naccache and Tibouchi, "Cryptanalysis of the RSA Subgroup Assumption from TCC 2005", PKC 2011.
c^n mod n² has no message any more: modulo p it is an element y of the subgroup of order u_p. With B = 2^(bits/2) there
are 0 ≤ j < B and 0 < i ≤ B with u_p = i·B − j, and then y^(i·B) = y^j modulo p, while modulo q it almost never is. So p
divides f(y^(i·B)) for f(X) = Π (X − y^j), and the values of f at all B points together cost about B operations but for
logarithms: the points are a geometric progression, so that one long multiplication gives them all (Bluestein). A gcd
with n of each value yields p.
"""

import math
from dataclasses import dataclass, field

import pytest
from gmpy2 import gcd, invert, mpz, powmod

import reference_paillier as reference
from crypto_support import random_vectors, toy_lookup_client
from xtrace_sdk.errors import WeakParameters
from xtrace_sdk.x_vec.crypto.paillier_lookup import MIN_ALPHA_LEN, PaillierLookupClient


@dataclass
class Attacker:
    """Somebody who knows n; counts the group elements that are worked out."""

    n: int
    elements: int = field(default=0)

    def factor(self, ciphertext: int, order_bits: int) -> tuple[int, int] | None:
        """The factors of n, if the noise of the ciphertext lies in subgroups of at most that many bits."""
        y = int(powmod(ciphertext % self.n, self.n, self.n))
        steps = 1 << -(-order_bits // 2)
        baby = self._powers(y, steps)
        giant_step = int(powmod(y, steps, self.n))
        values = self._at_powers(self._with_roots(baby), giant_step, steps)
        for i, value in enumerate(values):
            found = [int(gcd(value, self.n))] if i else []
            if found == [self.n]:  # both primes at once: one of the baby steps tells them apart
                point = powmod(giant_step, i, self.n)
                found = [int(gcd(point - power, self.n)) for power in baby]
            for divisor in found:
                if 1 < divisor < self.n:
                    return divisor, self.n // divisor
        return None

    def _powers(self, base: int, count: int) -> list[int]:
        self.elements += count
        powers = [1]
        for _ in range(count - 1):
            powers.append(powers[-1] * base % self.n)
        return powers

    def _times(self, left: list[int], right: list[int]) -> list[int]:
        """The product of two polynomials modulo n, by one multiplication of long integers."""
        width = (2 * self.n.bit_length() + min(len(left), len(right)).bit_length()) // 8 + 1
        packed = [
            mpz.from_bytes(b"".join(int(c).to_bytes(width, "little") for c in factor), "little")
            for factor in (left, right)
        ]
        count = len(left) + len(right) - 1
        data = (packed[0] * packed[1]).to_bytes(width * count, "little")
        return [int.from_bytes(data[width * i : width * (i + 1)], "little") % self.n for i in range(count)]

    def _with_roots(self, roots: list[int]) -> list[int]:
        level = [[-root % self.n, 1] for root in roots]
        while len(level) > 1:
            level = [self._times(*level[i : i + 2]) for i in range(0, len(level), 2)]
        return level[0]

    def _at_powers(self, polynomial: list[int], ratio: int, last: int) -> list[int]:
        """The values at ratio^0, …, ratio^last, by i·k = C(i+k, 2) − C(i, 2) − C(k, 2)."""
        self.elements += last
        degree, n = len(polynomial) - 1, self.n
        triangular = self._triangular_powers(ratio, degree + last + 1)
        inverse = self._triangular_powers(int(invert(ratio, n)), max(degree, last) + 1)
        weighted = [c * inverse[k] % n for k, c in enumerate(polynomial)]
        correlated = self._times(weighted[::-1], triangular)
        return [correlated[degree + i] * inverse[i] % n for i in range(last + 1)]

    def _triangular_powers(self, ratio: int, count: int) -> list[int]:
        """ratio^C(i, 2) for each i."""
        values, power = [1], 1
        for _ in range(count - 1):
            values.append(values[-1] * power % self.n)
            power = power * ratio % self.n
        return values


@pytest.mark.parametrize("order_bits", [12, 16, 20, 24])
def test_small_subgroups_give_the_key_to_whoever_sees_one_ciphertext(order_bits: int) -> None:
    owner = toy_lookup_client(order_bits, 256, 64)
    vector = random_vectors(1, 64)[0]
    ciphertext = owner.encrypt_vec_one(vector)[0]

    attacker = Attacker(int(owner.public_key()["n"]))
    factors = attacker.factor(ciphertext, order_bits)

    assert factors is not None
    assert set(factors) == {side.prime for side in owner._sides}
    # With the factors everything is read; no nonce, no noise key needed.
    message = reference.Key(*factors, b"").decrypt(ciphertext)
    assert reference.is_sum_of_two(message, 64, "base4")
    assert message == reference.number_of(vector.tolist(), 4)
    # The work grows with the root of the order, not with the order.
    assert attacker.elements == 2 * 2 ** (order_bits // 2)


def test_the_attack_does_not_find_an_order_beyond_its_reach() -> None:
    owner = toy_lookup_client(40, 256, 8)
    assert Attacker(owner.n).factor(owner.encrypt_vec_one([1] * 8)[0], 12) is None


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
    with pytest.raises(WeakParameters, match="found from a ciphertext"):
        PaillierLookupClient.generate(8, 256, 2 * order_bits, insecure_allow_weak_parameters=True)
