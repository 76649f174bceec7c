"""The common part of `paillier` and `paillier_lookup`: encryption and decryption modulo the squares of two primes.

They differ in the form of a key, and in the noise modulo the square of each prime, which is a `PrimeSide`.
"""

import secrets
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from xtrace_core.arithmetic import Rows, arithmetic, as_rows
from xtrace_sdk.errors import FaultDetected, InvalidArgument, WeakParameters
from xtrace_sdk.x_vec.keys.hedging import Hedge
from xtrace_sdk.x_vec.schemes.bits import PackedBits, checked_bits, differing
from xtrace_sdk.x_vec.schemes.ciphertexts import EncryptedIndexBatch
from xtrace_sdk.x_vec.schemes.interface import Answers, Bits, Distances, Nonces, Valid
from xtrace_sdk.x_vec.schemes.paillier.encoding import Base
from xtrace_sdk.x_vec.schemes.paillier.noise import NONCE_BYTES, NoiseKeys
from xtrace_sdk.x_vec.schemes.paillier.query import EncryptedQuery
from xtrace_sdk.x_vec.schemes.paillier.vectors import PaillierVectors
from xtrace_sdk.x_vec.schemes.rows import nonce_rows

MIN_KEY_LEN = 1024
MAX_KEY_LEN = 4096
MIN_INSECURE_KEY_LEN = 256


class PrimeSide(Protocol):
    """The computations modulo the square of one prime of a key."""

    prime: int
    square: int
    order_bits: int

    def noise_from(self, integers: Rows) -> Rows:
        """Reduces pseudo-random integers to the identifiers of the noise: exponents, or roots of the noise."""

    def no_noise(self) -> int:
        """Returns the identifier of the noise 1."""

    def encrypt(self, messages: Rows, noise: Rows) -> Rows:
        """Returns the ciphertexts modulo the square of the prime."""

    def read(self, products: Rows, noise: Rows, other: int) -> tuple[Rows, NDArray[np.bool_]]:
        """Returns `(messages modulo the prime, valid)` of products with the noise of `noise` times that of `other`."""


class PaillierScheme(PaillierVectors):
    """Paillier with two known primes: encryption and decryption modulo p² and q², noise from nonces."""

    __slots__ = ("_join_ciphertexts", "_join_messages", "_keys", "_residues", "_sides", "_without_noise")

    type: ClassVar[str]

    def __init__(
        self, sides: tuple[PrimeSide, PrimeSide], keys: NoiseKeys, embed_len: int, key_len: int, base: Base
    ) -> None:
        super().__init__((sides[0].prime, sides[1].prime), embed_len, key_len, base)
        self._sides = sides
        self._keys = keys
        p, q = sides
        self._join_ciphertexts = arithmetic.joiner(p.square, q.square)
        self._join_messages = arithmetic.joiner(p.prime, q.prime)
        self._residues = [arithmetic.multiplier(1, side.prime) for side in sides]
        self._without_noise = [  # (1+n)^m = 1 + m·n
            arithmetic.multiplier(p.prime * q.prime % side.square, side.square, plus=1) for side in sides
        ]

    @property
    def weakness(self) -> str:
        """Why anyone with the public key can decrypt; empty if no one can."""
        return short_primes(self.key_len)

    def public_key(self) -> dict[str, Any]:
        """Returns `{"n": decimal digits}`, a string because few JSON readers accept integers of this size."""
        return {"n": str(self.n)}

    def config(self) -> dict[str, Any]:
        """Returns the parameters that are not secret, for the context's `config`."""
        return {"embed_len": self.embed_len, "key_len": self._key_len, "encoding": self._encoding.base}

    @property
    def hedge(self) -> Hedge:
        """The context's source of randomness."""
        return self._keys.hedge

    def secrets(self) -> dict[str, str]:
        """Returns the primes and the keys of nonces, noise and randomness, in hexadecimal."""
        p, q = self._sides
        return {
            "p": f"{p.prime:x}",
            "q": f"{q.prime:x}",
            **self._keys.secrets(),
        }

    # Encryption

    def encrypt_vec_batch(self, vectors: Any) -> EncryptedIndexBatch:
        """Encrypts n binary vectors (an `(n, embed_len)` array or a sequence of vectors), in order."""
        bits = checked_bits(vectors, self.embed_len)
        return self._encrypt_with_nonces(bits, self._keys.nonces(self._encoding.pack(bits)))

    def encrypt_query(self, vector: Any) -> EncryptedQuery:
        """Returns an encrypted query for one search. Its noise is fresh, and is kept for reading that search's
        distances."""
        bits = checked_bits([vector], self.embed_len)
        noise = [(self._query_noise(bits, t, 0), self._query_noise(bits, t, 1)) for t in range(self._encoding.count)]
        return self._encrypt_query_with_noise(bits, noise)

    def _query_noise(self, bits: Bits, ciphertext: int, prime: int) -> int:
        side, packed = self._sides[prime], self._encoding.pack(bits).tobytes()
        # 128 bits more than the order: uniform except for a bias of 2^-128.
        size = -(-(side.order_bits + 128) // 8)
        drawn = self._keys.hedge.draw("query noise", [packed, bytes([ciphertext]), bytes([prime])], size)
        reduced = side.noise_from(np.frombuffer(drawn, dtype=np.uint8).reshape(1, size))
        return int.from_bytes(reduced.tobytes(), "little")

    def _encrypt_with_nonces(self, bits: Bits, nonces: Rows) -> EncryptedIndexBatch:
        ciphertexts = np.empty((len(bits), self._encoding.count, self._width), dtype=np.uint8)
        messages = self._encoding.encode(bits)
        noise = self._noise_of(nonces)
        for t, rows in enumerate(messages):
            ciphertexts[:, t] = self._encrypt(rows, noise[t])
        if len(bits):
            chosen = secrets.randbelow(len(bits))
            one = slice(chosen, chosen + 1)
            self._check_encrypted(ciphertexts[one], nonces[one], [rows[one] for rows in messages])
        return EncryptedIndexBatch(ciphertexts, nonces)

    def _encrypt_query_with_noise(self, bits: Bits, noise: list[tuple[int, int]]) -> EncryptedQuery:
        ciphertexts, messages = [], self._encoding.encode(bits)
        for t, message in enumerate(messages):
            rows = [as_rows([noise[t][i]], self._noise_width(i)) for i in (0, 1)]
            ciphertext = self._encrypt(message, (rows[0], rows[1]))
            for i, side in enumerate(self._sides):
                read, valid = side.read(ciphertext, rows[i], side.no_noise())
                self._check_messages(i, read, valid, message)
            ciphertexts.append(ciphertext.tobytes().rstrip(b"\0"))
        return EncryptedQuery(ciphertexts, messages, self._encoding.pack(bits), noise)

    def _encrypt(self, messages: Rows, noise: tuple[Rows, Rows]) -> Rows:
        halves = []
        for side, without_noise, own in zip(self._sides, self._without_noise, noise, strict=True):
            half = side.encrypt(messages, own)
            if (half == without_noise(messages)).all(axis=1).any():  # happens by chance once in 2^224 ciphertexts
                raise FaultDetected(
                    "a vector was encrypted without noise, so it was not sent: this machine computes incorrectly"
                )
            halves.append(half)
        return self._join_ciphertexts(halves[0], halves[1])

    def _check_encrypted(self, ciphertexts: Rows, nonces: Rows, messages: list[Rows]) -> None:
        # A fault in one half of the Chinese remainder would reveal the key to anyone who sees the ciphertext (Boneh,
        # DeMillo, Lipton, EUROCRYPT 1997), so one row of each batch is decrypted before the batch is sent.
        noise = self._noise_of(nonces)
        for t, message in enumerate(messages):
            for i, side in enumerate(self._sides):
                read, valid = side.read(np.ascontiguousarray(ciphertexts[:, t]), noise[t][i], side.no_noise())
                self._check_messages(i, read, valid, message)

    def _check_messages(self, prime: int, read: Rows, valid: NDArray[np.bool_], messages: Rows) -> None:
        if not (valid.all() and np.array_equal(read, self._residues[prime](messages))):
            raise FaultDetected(
                "a vector just encrypted does not decrypt to itself, so it was not sent: this machine computes "
                "incorrectly"
            )

    # Decryption

    def _read(
        self, rows: Answers, nonces: Nonces, query: EncryptedQuery | None, one_prime: bool
    ) -> tuple[Distances, Valid]:
        if query is None:
            raise InvalidArgument(
                "the query is missing: rows of a native context are authenticated by their nonce and query: call "
                "decode_hamming_client_one(ciphertexts, nonce, query)"
            )
        packed, valid = self._vectors(rows, nonces, query, one_prime)
        return differing(packed, query.packed), valid

    def _messages(
        self, products: Rows, nonces: Nonces, query: EncryptedQuery | None, one_prime: bool
    ) -> tuple[list[Rows], NDArray[np.bool_]]:
        rows, valid = nonce_rows(nonces, NONCE_BYTES)
        p, q = self._sides
        integers = self._keys.integers(rows, self._encoding.count, p.order_bits)
        sums = []
        for t in range(self._encoding.count):
            column = np.ascontiguousarray(products[:, t])
            first, good = p.read(column, p.noise_from(integers[t][0]), _query_noise(query, t, 0, p))
            valid &= good
            if one_prime:
                sums.append(first)
                continue
            second, good = q.read(column, q.noise_from(integers[t][1]), _query_noise(query, t, 1, q))
            valid &= good
            sums.append(self._join_messages(first, second))
        return sums, valid

    def _authenticated(self, nonces: Nonces, packed: PackedBits) -> NDArray[np.bool_]:
        rows, well_formed = nonce_rows(nonces, NONCE_BYTES)
        return self._keys.authenticated(rows, packed) & well_formed

    def _noise_of(self, nonces: Rows) -> list[tuple[Rows, Rows]]:
        p, q = self._sides
        integers = self._keys.integers(nonces, self._encoding.count, p.order_bits)
        return [(p.noise_from(for_p), q.noise_from(for_q)) for for_p, for_q in integers]

    def _noise_width(self, prime: int) -> int:
        return -(-self._sides[prime].order_bits // 8)


def _query_noise(query: EncryptedQuery | None, ciphertext: int, prime: int, side: PrimeSide) -> int:
    return side.no_noise() if query is None else query.noise(ciphertext, prime)


def secret_primes(config: Mapping[str, Any], secret: Mapping[str, str]) -> tuple[int, int]:
    """Returns the primes of a context's secret. Raises `ValueError` for a wrong key length, before computing
    anything."""
    key_len = config["key_len"]
    if not MIN_INSECURE_KEY_LEN <= key_len <= MAX_KEY_LEN:
        raise ValueError("no key has this length")
    p, q = (secret_integer(secret, name, key_len) for name in ("p", "q"))
    if not p.bit_length() == q.bit_length() == key_len:
        raise ValueError("the primes do not have the key length")
    return p, q


def secret_integer(secret: Mapping[str, str], name: str, max_bits: int) -> int:
    """Returns an integer of a context's secret. Raises `KeyError`, or `ValueError` if it is too long."""
    digits = secret[name]
    if len(digits) > -(-max_bits // 4):
        raise ValueError("an integer is longer than any of this key length")
    return int(digits, 16)


def short_primes(key_len: int) -> str:
    """Returns the weakness of primes of this length; empty if they are long enough."""
    return f"its primes have {key_len} bits, expected at least {MIN_KEY_LEN}" if key_len < MIN_KEY_LEN else ""


def check_key_len(key_len: int, insecure_allow_weak_parameters: bool) -> None:
    """Raises `WeakParameters` for primes too short to be secure (or, with the insecure flag, to work at all)."""
    lowest = MIN_INSECURE_KEY_LEN if insecure_allow_weak_parameters else MIN_KEY_LEN
    if not lowest <= key_len <= MAX_KEY_LEN or key_len % 2:
        raise WeakParameters(
            f"key_len is {key_len}, expected an even number of bits from {lowest} to {MAX_KEY_LEN}: "
            "1024 gives 112-bit security, 1536 gives 128-bit"
        )
