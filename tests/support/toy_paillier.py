"""Paillier with a modulus of 512 bits, for tests of the service alone: fast, deterministic, and insecure."""

import json
import random
from functools import cache

from gmpy2 import invert, is_prime, mpz, powmod

from xtrace_core.wire import ContextData, ciphertext_from_bytes, ciphertext_to_bytes


def _insecure_prime(seed: int) -> int:
    value = random.Random(seed).getrandbits(256) | 3 << 254 | 1
    while not is_prime(value):
        value += 2
    return value


class ToyPaillier:
    """A key pair made from a seed."""

    def __init__(self, seed: int = 0) -> None:
        p, q = _insecure_prime(2 * seed + 1), _insecure_prime(2 * seed + 2)
        self.n = p * q
        self._phi = (p - 1) * (q - 1)
        self._random = random.Random(seed)

    @property
    def context_data(self) -> ContextData:
        """What a client saves of a context with this key, without its secret part."""
        return ContextData(type="PaillierClient", pk=json.dumps({"n": self.n}), config='{"embed_len": 64}')

    def encrypt(self, message: int) -> bytes:
        """A fresh encryption, as it travels."""
        n_squared = self.n * self.n
        noise = powmod(self._random.randrange(2, self.n), self.n, n_squared)
        return ciphertext_to_bytes(int((1 + mpz(message) * self.n) * noise % n_squared))

    def decrypt(self, ciphertext: bytes) -> int:
        """The message, or the sum of messages, in a ciphertext."""
        u = powmod(ciphertext_from_bytes(ciphertext), self._phi, self.n * self.n)
        return int((u - 1) // self.n * invert(self._phi, self.n) % self.n)


@cache
def toy_key(seed: int = 0) -> ToyPaillier:
    """A key pair, the same for the same seed."""
    return ToyPaillier(seed)
