"""Uses keys of other clients of this wire format unchanged (docs/formats.md, "Contexts of existing clients").

Their chunks are stored without nonces, so their noise is unknown, and they are decrypted in the general way: a
ciphertext of g^m and noise, raised to the order e of the noise group modulo p, is 1 + m·k·p modulo p² with k = L(g^e
mod p²). This takes one exponentiation per prime and row, with a secret exponent and a base from the server, so each
batch is first multiplied by a fresh noise factor. A row that someone else encrypted under the same public key cannot be
detected.

Paillier 1999, section 4 (`paillier`) and section 6 (`paillier_lookup`, whose g has the order n·a).
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from math import gcd, isqrt
from typing import Any, ClassVar

import numpy as np
from gmpy2 import invert, powmod
from numpy.typing import NDArray

from xtrace_core.arithmetic import Rows, arithmetic
from xtrace_core.schemes.paillier import MAX_MODULUS_BITS
from xtrace_core.schemes.registry import SchemeType
from xtrace_sdk.errors import FaultDetected, UnknownScheme
from xtrace_sdk.limits import MAX_KEY_TEXT
from xtrace_sdk.x_vec.keys.hedging import Hedge
from xtrace_sdk.x_vec.keys.secrecy import Secretive
from xtrace_sdk.x_vec.schemes.bits import PackedBits, checked_bits
from xtrace_sdk.x_vec.schemes.ciphertexts import EncryptedIndexBatch
from xtrace_sdk.x_vec.schemes.interface import Answers, Bits, Distances, Nonces
from xtrace_sdk.x_vec.schemes.loading import reading_secrets
from xtrace_sdk.x_vec.schemes.paillier.lookup import short_orders
from xtrace_sdk.x_vec.schemes.paillier.query import EncryptedQuery
from xtrace_sdk.x_vec.schemes.paillier.scheme import short_primes
from xtrace_sdk.x_vec.schemes.paillier.vectors import PaillierVectors


class ExistingPrime(Secretive):
    """One prime of the key: `exponent` is the order of the noise group modulo the prime."""

    __slots__ = ("_hedge", "_inverse", "_noise_table", "_step", "exponent", "prime", "square")

    def __init__(self, prime: int, exponent: int, g: int, noise_base: int | None, hedge: Hedge) -> None:
        """Noise is a power of `noise_base` or, without it, a random p-th power.

        Raises `ValueError` if g or the noise do not have the correct orders.
        """
        self.prime = prime
        self.square = prime * prime
        self.exponent = exponent
        self._hedge = hedge
        quotient, remainder = divmod(int(powmod(g, exponent, self.square)) - 1, prime)
        if remainder or not quotient:
            raise ValueError("g does not fit the secret key")
        self._inverse = int(invert(quotient, prime))
        # g^m = w^m · (1 + step)^m, where w is an element of the noise group. Times uniform noise, w^m makes no
        # difference: what is encrypted is (1 + step)^m = 1 + m·step.
        self._step = quotient * int(invert(exponent, prime)) % prime * prime
        self._noise_table = None
        if noise_base is not None:
            if noise_base == 1 or powmod(noise_base, exponent, self.square) != 1:
                raise ValueError("the noise does not fit the secret key")
            self._noise_table = arithmetic.fixed_base_table(noise_base, self._noise_width, self.square)

    @property
    def _noise_width(self) -> int:
        return -(-self.exponent.bit_length() // 8)

    @property
    def _prime_width(self) -> int:
        return -(-self.prime.bit_length() // 8)

    def noise(self, purpose: str, messages: Rows) -> Rows:
        """Returns fresh noise for each row of `messages`, as rows modulo the square of the prime."""
        # 128 bits more than the order: uniform except for a bias of 2^-128.
        size, which = self._noise_width + 16, self.prime.to_bytes(self._prime_width, "little")
        drawn = b"".join([self._hedge.draw(purpose, [which, row.tobytes()], size) for row in messages])
        integers = np.frombuffer(drawn, dtype=np.uint8).reshape(len(messages), size)
        exponents = arithmetic.multiply(integers, 1, self.exponent)
        if self._noise_table is not None:
            return arithmetic.fixed_base_power(self._noise_table, exponents)
        roots = arithmetic.multiply(exponents, 1, self.prime, plus=1)  # 1 to p − 1
        return arithmetic.power(roots, self.prime, self.square)

    def encrypt(self, messages: Rows) -> Rows:
        """Returns their ciphertexts modulo the square of the prime, each with fresh noise."""
        plain = arithmetic.multiply(messages, self._step, self.square, plus=1)
        return arithmetic.multiply_pairs(plain, self.noise("noise", messages), self.square)

    def read(self, products: Rows) -> tuple[Rows, NDArray[np.bool_]]:
        """Returns `(messages modulo the prime, valid)`; valid if the rest without the message is in the noise group."""
        factor = self.noise("blinding", products.reshape(1, -1))
        blinded = arithmetic.multiply(products, int.from_bytes(factor.tobytes(), "little"), self.square)
        quotients, remainders = arithmetic.divide(arithmetic.power(blinded, self.exponent, self.square), self.prime)
        valid = (remainders[:, 0] == 1) & ~remainders[:, 1:].any(axis=1)
        return arithmetic.multiply(quotients, self._inverse, self.prime), valid


class ExistingClient(PaillierVectors):
    """A key of another client: encrypts and decrypts as the other client does."""

    __slots__ = ("_config", "_public_key", "_sides", "hedge", "secret_key")

    type: ClassVar[str]

    def __init__(
        self,
        public_key: dict[str, Any],
        config: dict[str, Any],
        secret_key: str,
        hedge: Hedge,
    ) -> None:
        """`secret_key` is the JSON text that the other client encrypted. Raises what `load_existing` raises."""
        with reading_secrets():
            sides = self._read_sides(public_key, _object(secret_key), hedge)
            # The larger one first: reading under one prime has a bound that only the larger one may satisfy.
            self._sides = sorted(sides, key=lambda side: side.prime, reverse=True)
            primes = self._sides[0].prime, self._sides[1].prime
            super().__init__(primes, config["embed_len"], config["key_len"], "base4")
        self._public_key = public_key
        self._config = config
        self.secret_key = secret_key
        """Returns the secret key's JSON text, which is secret."""
        self.hedge = hedge

    @staticmethod
    def _read_sides(
        public_key: Mapping[str, Any], secret_key: Mapping[str, Any], hedge: Hedge
    ) -> Sequence[ExistingPrime]:
        raise NotImplementedError

    @property
    def weakness(self) -> str:
        """Why anyone with the public key can decrypt; empty if no one can."""
        return short_primes(self.key_len) or short_orders(min(side.exponent.bit_length() for side in self._sides))

    def public_key(self) -> dict[str, Any]:
        """The other client's `pk`."""
        return dict(self._public_key)

    def config(self) -> dict[str, Any]:
        """The other client's `config`."""
        return dict(self._config)

    def secrets(self) -> dict[str, str]:
        """`sk`: the other client's secret key, in its own form."""
        return {"sk": self.secret_key}

    # Encryption

    def encrypt_vec_batch(self, vectors: Any) -> EncryptedIndexBatch:
        """Returns the encrypted indexes of n binary vectors, in order, without nonces, in the other client's form.

        Raises `InvalidVector`.
        """
        ciphertexts = self._encrypt(checked_bits(vectors, self.embed_len))
        return EncryptedIndexBatch(ciphertexts, np.empty((len(ciphertexts), 0), dtype=np.uint8))

    def encrypt_query(self, vector: Any) -> EncryptedQuery:
        """Returns an encrypted query. Under a weak key, anyone who sees it can read it."""
        bits = checked_bits([vector], self.embed_len)
        ciphertexts = [row.tobytes().rstrip(b"\0") for row in self._encrypt(bits)[0]]
        return EncryptedQuery(ciphertexts, self._encoding.encode(bits), self._encoding.pack(bits), [])

    def _encrypt(self, bits: Bits) -> Rows:
        p, q = self._sides
        ciphertexts = np.empty((len(bits), self._encoding.count, self._width), dtype=np.uint8)
        for t, messages in enumerate(self._encoding.encode(bits)):
            ciphertexts[:, t] = arithmetic.join(p.encrypt(messages), p.square, q.encrypt(messages), q.square)
        if len(bits):
            # As in native contexts: a fault in one half would reveal the key.
            chosen = secrets.randbelow(len(bits))
            read, valid = self.decrypt_vec_batch(ciphertexts[chosen : chosen + 1], [None])
            if not (valid.all() and np.array_equal(read[0], bits[chosen])):
                raise FaultDetected(
                    "a vector just encrypted does not decrypt to itself, so it was not sent: this machine computes "
                    "incorrectly"
                )
        return ciphertexts

    # Decryption

    def _read(
        self, rows: Answers, nonces: Nonces, query: EncryptedQuery | None, one_prime: bool
    ) -> tuple[Distances, NDArray[np.bool_]]:
        # Only from the sums. Subtracting the query would make the check stricter without authenticating anything, and
        # the failing rows would reveal bits of stored vectors to the server.
        sums, good = self._sums(rows, nonces, query, one_prime)
        distances, valid = self._encoding.distances(sums)
        return distances, valid & good & self._authenticated(nonces, None)

    def _messages(
        self, products: Rows, nonces: Nonces, query: EncryptedQuery | None, one_prime: bool
    ) -> tuple[list[Rows], NDArray[np.bool_]]:
        valid = np.ones(len(products), dtype=np.bool_)
        p, q = self._sides
        messages = []
        for t in range(self._encoding.count):
            column = np.ascontiguousarray(products[:, t])
            first, good = p.read(column)
            valid &= good
            if not one_prime:
                second, good = q.read(column)
                valid &= good
                first = arithmetic.join(first, p.prime, second, q.prime)
            messages.append(first)
        return messages, valid

    def _authenticated(self, nonces: Nonces, packed: PackedBits | None) -> NDArray[np.bool_]:
        # Chunks of these contexts do not have nonces: a nonce means that the chunk belongs to another context.
        return np.array([nonce is None or not len(nonce) for nonce in nonces], dtype=np.bool_)


class ExistingPaillierClient(ExistingClient):
    """A key of another client's scheme `paillier`: `sk` is {phi, inv}, noise r^n."""

    __slots__ = ()

    type: ClassVar[str] = SchemeType.PAILLIER.value

    @staticmethod
    def _read_sides(
        public_key: Mapping[str, Any], secret_key: Mapping[str, Any], hedge: Hedge
    ) -> Sequence[ExistingPrime]:
        g = _integer(public_key["g"])
        primes = _primes(_integer(public_key["n"]), _integer(secret_key["phi"]))
        return [ExistingPrime(prime, prime - 1, g, None, hedge) for prime in primes]


class ExistingPaillierLookupClient(ExistingClient):
    """A key of another client's scheme `paillier_lookup`: `sk` is {phi, a, g_a_inv}, noise a power of g^n."""

    __slots__ = ()

    type: ClassVar[str] = SchemeType.PAILLIER_LOOKUP.value

    @staticmethod
    def _read_sides(
        public_key: Mapping[str, Any], secret_key: Mapping[str, Any], hedge: Hedge
    ) -> Sequence[ExistingPrime]:
        g, n, order = _integer(public_key["g"]), _integer(public_key["n"]), _integer(secret_key["a"])
        return [
            ExistingPrime(prime, gcd(order, prime - 1), g, int(powmod(g, n, prime * prime)), hedge)
            for prime in _primes(n, _integer(secret_key["phi"]))
        ]


def load_existing(type_: str, pk: str, config: str, secret_key: str, hedge: Hedge) -> ExistingClient:
    """Returns the scheme's client for another client's saved context; `secret_key` is the decrypted `sk`.

    Raises `UnknownScheme`, and `InvalidContext` if the parts do not match.
    """
    kinds: Sequence[type[ExistingClient]] = (ExistingPaillierClient, ExistingPaillierLookupClient)
    for kind in kinds:
        if kind.type == type_:
            with reading_secrets():
                return kind(_object(pk), _object(config), secret_key, hedge)
    raise UnknownScheme(f"the context's type is {type_!r}, which this version does not support: update XTrace")


def is_secret_key(plaintext: bytes) -> bool:
    """Whether this is the JSON of a secret key in the other clients' form."""
    try:
        keys = set(_object(plaintext))
    except ValueError:
        return False
    return "phi" in keys and not keys.isdisjoint(("inv", "a", "g_a_inv"))


def _object(text: str | bytes) -> dict[str, Any]:
    if len(text) > MAX_KEY_TEXT:
        raise ValueError("longer than any key")
    try:
        value = json.loads(text)  # Python's parser, because these integers are too large for others
    except RecursionError:
        value = None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def _integer(value: Any) -> int:
    """Returns a positive integer that is written as a number or as a string of digits."""
    if isinstance(value, bool) or not isinstance(value, int | str) or int(value) < 1:
        raise ValueError("not a positive integer")
    return int(value)


def _primes(n: int, phi: int) -> tuple[int, int]:
    """Returns the two factors of n, given phi(n)."""
    if n.bit_length() > MAX_MODULUS_BITS:
        raise ValueError("n is longer than any modulus")
    total = n + 1 - phi  # p + q
    root = isqrt(max(total * total - 4 * n, 0))
    p, q = (total + root) // 2, (total - root) // 2
    if p * q != n or p == q or q < 3:
        raise ValueError("phi does not belong to n")
    return p, q
