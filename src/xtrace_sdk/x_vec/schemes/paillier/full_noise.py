"""The scheme `paillier`: g = 1 + n, noise r^n for r uniform modulo n.

Modulo p², r^n has the same distribution as s^p for s uniform in Z_p^*, which costs half as much. What identifies the
noise is s, modulo each prime. Paillier 1999, sections 4 and 7.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from xtrace_core.arithmetic import Rows, arithmetic
from xtrace_core.schemes.registry import SchemeType
from xtrace_sdk.x_vec.keys.secrecy import Secretive
from xtrace_sdk.x_vec.schemes.interface import SchemeParameters
from xtrace_sdk.x_vec.schemes.loading import reading_secrets
from xtrace_sdk.x_vec.schemes.paillier.encoding import Base, VectorEncoding, check_one_ciphertext, choose_base
from xtrace_sdk.x_vec.schemes.paillier.noise import NoiseKeys
from xtrace_sdk.x_vec.schemes.paillier.primes import far_apart, prime_with_two_top_bits
from xtrace_sdk.x_vec.schemes.paillier.scheme import (
    MIN_KEY_LEN,
    PaillierScheme,
    check_key_len,
    secret_primes,
)


class FullNoisePrime(Secretive):
    """One prime of the key; noise s^p modulo p²."""

    __slots__ = ("_arithmetic", "_residues", "order_bits", "prime", "square")

    def __init__(self, prime: int, other_prime: int) -> None:
        self.prime = prime
        self.square = prime * prime
        self.order_bits = prime.bit_length()
        self._arithmetic = arithmetic.prime_square(prime, other_prime)
        self._residues = arithmetic.multiplier(1, prime)

    def noise_from(self, integers: Rows) -> Rows:
        # The last reduction does not change a value, because s is at most p − 1.
        return arithmetic.multiply(arithmetic.multiply(integers, 1, self.prime - 1), 1, self.prime, plus=1)

    def no_noise(self) -> int:
        return 1

    def encrypt(self, messages: Rows, noise: Rows) -> Rows:
        return self._arithmetic.encrypt_power(messages, noise, self.prime)

    def read(self, products: Rows, noise: Rows, other: int) -> tuple[Rows, NDArray[np.bool_]]:
        expected = arithmetic.multiply(noise, other, self.prime)
        messages, valid = self._arithmetic.read_power(products, self.prime - 1)
        return messages, valid & (self._residues(products) == expected).all(axis=1)


class PaillierClient(PaillierScheme):
    """Key, encryption and decryption of the scheme `paillier`."""

    __slots__ = ()

    type: ClassVar[str] = SchemeType.PAILLIER.value
    parameters: ClassVar[frozenset[str]] = frozenset({"key_len"})

    @classmethod
    def create(cls, embed_len: int, parameters: SchemeParameters) -> Self:
        """Creates a key. Raises what `generate` raises."""
        key_len = parameters.key_len or MIN_KEY_LEN
        if parameters.in_one_ciphertext:
            check_one_ciphertext(embed_len, key_len)
        return cls.generate(embed_len, key_len, parameters.insecure_allow_weak_parameters)

    @classmethod
    def generate(cls, embed_len: int, key_len: int, insecure_allow_weak_parameters: bool = False) -> Self:
        """Creates a key. Raises `WeakParameters`, and `InvalidArgument` for a length that cannot be encoded."""
        check_key_len(key_len, insecure_allow_weak_parameters)
        base = choose_base(embed_len, key_len)
        VectorEncoding(embed_len, key_len, base)  # rejects a wrong length before the long work
        p = prime_with_two_top_bits(key_len)
        q = prime_with_two_top_bits(key_len)
        while not far_apart(p, q, key_len):
            q = prime_with_two_top_bits(key_len)
        return cls.from_primes(p, q, NoiseKeys.generate(), embed_len, key_len, base)

    @classmethod
    def load(cls, config: Mapping[str, Any], secret: Mapping[str, str]) -> Self:
        """Creates the client from the results of `config` and `secrets`. Raises `InvalidContext` if they do not
        match."""
        with reading_secrets():
            p, q = secret_primes(config, secret)
            keys = NoiseKeys.from_secrets(secret)
            return cls.from_primes(p, q, keys, config["embed_len"], config["key_len"], config["encoding"])

    @classmethod
    def from_primes(cls, p: int, q: int, keys: NoiseKeys, embed_len: int, key_len: int, base: Base) -> Self:
        """Creates the client for given primes."""
        return cls((FullNoisePrime(p, q), FullNoisePrime(q, p)), keys, embed_len, key_len, base)
