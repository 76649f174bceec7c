"""The scheme `paillier_lookup`: noise from a secret subgroup, by table look-ups instead of exponentiations.

p = 2·u_p·k + 1 with a secret prime u_p; h_p has order u_p modulo p², and noise is h_p^a for a below u_p, likewise
modulo q². The noise is identified by a, modulo each order. Only n is public. Assumption: given n and samples, y and
y·(1+n)^m are indistinguishable for y uniform in the hidden subgroup (Paillier 1999, section 6; Groth, TCC 2005).
Raising a ciphertext to the n-th power leaves an element of the subgroup. A baby-step giant-step search with batched
gcds finds its order in about the square root of its size (Coron et al., PKC 2011, section 4); hence the bound on
`alpha_len`.
"""

import secrets
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from gmpy2 import powmod
from numpy.typing import NDArray

from xtrace_core.arithmetic import Rows, arithmetic, as_rows
from xtrace_core.schemes.registry import SchemeType
from xtrace_sdk.errors import FaultDetected, InvalidContext, WeakParameters
from xtrace_sdk.x_vec.keys.secrecy import Secretive
from xtrace_sdk.x_vec.schemes.interface import SchemeParameters
from xtrace_sdk.x_vec.schemes.loading import reading_secrets
from xtrace_sdk.x_vec.schemes.paillier.encoding import Base, VectorEncoding, check_one_ciphertext, choose_base
from xtrace_sdk.x_vec.schemes.paillier.noise import NoiseKeys
from xtrace_sdk.x_vec.schemes.paillier.primes import far_apart, prime_of_bits, prime_with_subgroup
from xtrace_sdk.x_vec.schemes.paillier.scheme import (
    MIN_KEY_LEN,
    PaillierScheme,
    check_key_len,
    secret_integer,
    secret_primes,
)

MIN_ALPHA_LEN = 448


def default_alpha_len(key_len: int) -> int:
    """The bits of both subgroup orders together: 512 up to key_len 1536, 640 up to 2048, then 768."""
    if key_len < 1024:  # insecure lengths, for tests: whatever fits into the primes
        return MIN_ALPHA_LEN
    return 512 if key_len <= 1536 else 640 if key_len <= 2048 else 768


class SubgroupPrime(Secretive):
    """One prime of the key; noise h^a modulo p² for a below the order of h."""

    __slots__ = ("_arithmetic", "_exponents", "_table", "generator", "order", "order_bits", "prime", "square")

    def __init__(self, prime: int, other_prime: int, order: int, generator: int) -> None:
        """Raises `InvalidContext` unless `generator` has exactly this order modulo the square of the prime."""
        self.prime = prime
        self.square = prime * prime
        self.order = order
        self.order_bits = order.bit_length()
        self.generator = generator
        if generator % self.square == 1 or powmod(generator, order, self.square) != 1:
            raise InvalidContext("the context's noise generator has the wrong order")
        self._arithmetic = arithmetic.prime_square(prime, other_prime)
        self._exponents = arithmetic.multiplier(1, order)
        self._table = arithmetic.fixed_base_table(generator, self._width, self.square)
        self._check_table()

    @classmethod
    def generate(cls, prime: int, other_prime: int, order: int) -> Self:
        """Creates it with a random generator of the subgroup of this order."""
        square = prime * prime
        generator = 1
        while generator == 1:
            x = 1 + secrets.randbelow(square - 1)
            if x % prime:
                generator = int(powmod(x, prime * (prime - 1) // order, square))
        return cls(prime, other_prime, order, generator)

    @property
    def _width(self) -> int:
        return -(-self.order_bits // 8)

    def _check_table(self) -> None:
        # An exponent with j in every byte uses entry j of every window, so these 256 powers (each is the previous one
        # times the second) check every single entry. They cannot detect exchanged windows, but one random exponent
        # does.
        every_byte = np.repeat(np.arange(256, dtype=np.uint8)[:, None], self._width, axis=1)
        powers = arithmetic.fixed_base_power(self._table, every_byte)
        next_powers = arithmetic.multiply(powers[:-1], int.from_bytes(powers[1].tobytes(), "little"), self.square)
        exponents = [0, int.from_bytes(every_byte[1].tobytes(), "little"), secrets.randbelow(self.order)]
        some = arithmetic.fixed_base_power(self._table, as_rows(exponents, self._width))
        expected = [int(powmod(self.generator, exponent, self.square)) for exponent in exponents]
        if not np.array_equal(powers[1:], next_powers) or not np.array_equal(some, as_rows(expected, some.shape[1])):
            raise FaultDetected("a table of powers just computed is wrong: this machine computes incorrectly")

    def noise_from(self, integers: Rows) -> Rows:
        return self._exponents(integers)

    def no_noise(self) -> int:
        return 0

    def encrypt(self, messages: Rows, noise: Rows) -> Rows:
        return self._arithmetic.encrypt(messages, self._table, noise)

    def read(self, products: Rows, noise: Rows, other: int) -> tuple[Rows, NDArray[np.bool_]]:
        inverse = arithmetic.multiply(noise, self.order - 1, self.order, plus=(self.order - other) % self.order)
        return self._arithmetic.read(products, self._table, inverse)


class PaillierLookupClient(PaillierScheme):
    """Key, encryption and decryption of the scheme `paillier_lookup`."""

    __slots__ = ("_subgroups",)

    type: ClassVar[str] = SchemeType.PAILLIER_LOOKUP.value
    parameters: ClassVar[frozenset[str]] = frozenset({"key_len", "alpha_len"})

    def __init__(
        self, p: SubgroupPrime, q: SubgroupPrime, keys: NoiseKeys, embed_len: int, key_len: int, base: Base
    ) -> None:
        super().__init__((p, q), keys, embed_len, key_len, base)
        self._subgroups = (p, q)

    @classmethod
    def create(cls, embed_len: int, parameters: SchemeParameters) -> Self:
        """Creates a key. Raises what `generate` raises."""
        key_len = parameters.key_len or MIN_KEY_LEN
        if parameters.in_one_ciphertext:
            check_one_ciphertext(embed_len, key_len)
        return cls.generate(embed_len, key_len, parameters.alpha_len, parameters.insecure_allow_weak_parameters)

    @classmethod
    def generate(
        cls,
        embed_len: int,
        key_len: int,
        alpha_len: int | None = None,
        insecure_allow_weak_parameters: bool = False,
    ) -> Self:
        """Creates a key with subgroup orders of `alpha_len`/2 bits each.

        Raises `WeakParameters`, and `InvalidArgument` for a length that cannot be encoded.
        """
        check_key_len(key_len, insecure_allow_weak_parameters)
        alpha_len = default_alpha_len(key_len) if alpha_len is None else alpha_len
        _check_alpha_len(alpha_len, key_len)
        base = choose_base(embed_len, key_len)
        VectorEncoding(embed_len, key_len, base)  # rejects a wrong length before the long work
        while True:
            orders = prime_of_bits(alpha_len // 2), prime_of_bits(alpha_len // 2)
            p, q = (prime_with_subgroup(key_len, order) for order in orders)
            independent = orders[0] != orders[1] and (q - 1) % orders[0] and (p - 1) % orders[1]
            if independent and far_apart(p, q, key_len):
                break
        sides = SubgroupPrime.generate(p, q, orders[0]), SubgroupPrime.generate(q, p, orders[1])
        return cls(*sides, NoiseKeys.generate(), embed_len, key_len, base)

    @classmethod
    def load(cls, config: Mapping[str, Any], secret: Mapping[str, str]) -> Self:
        """Creates the client from the results of `config` and `secrets`. Raises `InvalidContext` if they do not
        match."""
        with reading_secrets():
            p, q = secret_primes(config, secret)
            u_p, u_q = (secret_integer(secret, name, p.bit_length()) for name in ("u_p", "u_q"))
            h_p, h_q = (secret_integer(secret, name, 2 * p.bit_length()) for name in ("h_p", "h_q"))
            keys = NoiseKeys.from_secrets(secret)
            sides = SubgroupPrime(p, q, u_p, h_p), SubgroupPrime(q, p, u_q, h_q)
            return cls(*sides, keys, config["embed_len"], config["key_len"], config["encoding"])

    @property
    def alpha_len(self) -> int:
        """The bits of both subgroup orders together."""
        return 2 * self._subgroups[0].order_bits

    @property
    def weakness(self) -> str:
        return super().weakness or short_orders(min(side.order_bits for side in self._subgroups))

    def config(self) -> dict[str, Any]:
        return {**super().config(), "alpha_len": self.alpha_len}

    def secrets(self) -> dict[str, str]:
        """Returns the primes, the subgroups' orders and generators, and the noise keys, in hexadecimal."""
        p, q = self._subgroups
        subgroups = {"u_p": p.order, "u_q": q.order, "h_p": p.generator, "h_q": q.generator}
        return {**super().secrets(), **{name: f"{value:x}" for name, value in subgroups.items()}}


def short_orders(order_bits: int) -> str:
    """Returns the weakness of noise groups whose smaller order has this length; empty if it is long enough."""
    lowest = MIN_ALPHA_LEN // 2
    if order_bits >= lowest:
        return ""
    return f"its noise groups have orders of {order_bits} bits, expected at least {lowest}"


def _check_alpha_len(alpha_len: int, key_len: int) -> None:
    if alpha_len % 2 or not MIN_ALPHA_LEN <= alpha_len <= 2 * (key_len - 24):
        raise WeakParameters(
            f"alpha_len is {alpha_len}, expected an even number of bits from {MIN_ALPHA_LEN} to {2 * (key_len - 24)}: "
            "from a ciphertext, a smaller subgroup can be found, and with it the key"
        )
