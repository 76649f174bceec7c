"""The client's half of a scheme: encrypt vectors and queries, read distances.

`HomomorphicClient` is what the rest of the SDK knows of a scheme. `PaillierScheme` is what the two Paillier schemes
share; they differ in how a key looks and in the noise modulo the square of each prime, which is a `PrimeSide`.
"""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from xtrace_core.arithmetic import Rows, arithmetic, as_rows, row_width
from xtrace_sdk.errors import (
    FaultDetected,
    InvalidArgument,
    InvalidContext,
    InvalidRows,
    InvalidVector,
    WeakParameters,
)
from xtrace_sdk.x_vec.keys.hedging import Hedge
from xtrace_sdk.x_vec.keys.secrecy import Secretive
from xtrace_sdk.x_vec.schemes.ciphertexts import EncryptedIndex, EncryptedIndexBatch
from xtrace_sdk.x_vec.schemes.paillier.encoding import Base, Bits, PackedBits, VectorEncoding
from xtrace_sdk.x_vec.schemes.paillier.noise import NONCE_BYTES, NoiseKeys

MIN_KEY_LEN = 1024
MAX_KEY_LEN = 4096
MIN_INSECURE_KEY_LEN = 256

Distances = NDArray[np.int64]
Ciphertext = int | bytes
Answers = Rows | Sequence[Sequence[Ciphertext]]
"""A service's answers: an array `(n, count, width)` of little-endian uint8, or sequences of ciphertexts."""
Nonces = Rows | Sequence[bytes | None]
"""The nonces of the answers: an array `(n, 30)` of uint8, or a sequence with None where there is none."""


class EncryptedQuery(Secretive):
    """An encrypted query vector with its bits and its noise, which take it away again and never leave this object."""

    __slots__ = ("_noise", "bits", "ciphertexts")

    def __init__(self, ciphertexts: list[bytes], bits: Bits, noise: list[tuple[int, int]]) -> None:
        self.ciphertexts = ciphertexts
        """Little-endian without padding, as they travel."""
        self.bits = bits
        """The query vector, `(1, embed_len)`. Secret."""
        self._noise = noise

    def noise(self, ciphertext: int, prime: int) -> int:
        """The noise of one ciphertext under the first (0) or second (1) prime. Secret."""
        return self._noise[ciphertext][prime]


class HomomorphicClient(Protocol):
    """What the SDK needs of a scheme, whatever its ciphertexts look like. Vectors are arrays or lists of 0 and 1."""

    type: ClassVar[str]
    """The name under which contexts of this scheme are stored."""

    @property
    def embed_len(self) -> int:
        """The number of positions of the vectors."""

    @property
    def key_len(self) -> int:
        """The length in bits of each prime."""

    def public_key(self) -> dict[str, Any]:
        """What the service needs; stored as `pk`."""

    def config(self) -> dict[str, Any]:
        """The parameters that are not secret; stored as `config`."""

    @property
    def hedge(self) -> Hedge:
        """The context's source of randomness."""

    def secrets(self) -> dict[str, str]:
        """The secret parameters, for encryption under the key provider's key only."""

    def encrypt_vec_one(self, vector: Any) -> EncryptedIndex: ...
    def encrypt_vec_batch(self, vectors: Any) -> EncryptedIndexBatch: ...
    def encrypt_query(self, vector: Any) -> EncryptedQuery: ...

    def stored_rows_query(self) -> list[bytes]:
        """The query that the service answers with the stored rows themselves, under no key and the same for all."""

    def decrypt_vec_batch(self, rows: Answers, nonces: Nonces) -> tuple[Bits, NDArray[np.bool_]]: ...

    def read_distances(
        self, rows: Answers, nonces: Nonces, query: EncryptedQuery
    ) -> tuple[Distances, NDArray[np.bool_]]: ...

    def confirm_distances(
        self, rows: Answers, nonces: Nonces, query: EncryptedQuery
    ) -> tuple[Distances, NDArray[np.bool_]]: ...


class PrimeSide(Protocol):
    """Everything that happens modulo the square of one prime of a key."""

    prime: int
    square: int
    order_bits: int

    def noise_from(self, integers: Rows) -> Rows:
        """Pseudo-random integers reduced to what identifies the noise (an exponent, or the noise's root)."""

    def no_noise(self) -> int:
        """What identifies the noise 1."""

    def encrypt(self, messages: Rows, noise: Rows) -> Rows:
        """The ciphertexts modulo the square of the prime."""

    def read(self, products: Rows, noise: Rows, other: int) -> tuple[Rows, NDArray[np.bool_]]:
        """`(messages modulo the prime, valid)` of products whose noise is that of `noise` times that of `other`."""


class PaillierVectors(Secretive):
    """What every Paillier client that knows the two primes shares: the shape of vectors, and how answers are read."""

    __slots__ = ("_encoding", "_key_len", "_one_prime", "_width", "n")

    def __init__(self, primes: tuple[int, int], embed_len: int, key_len: int, base: Base) -> None:
        self._key_len = key_len
        self._encoding = VectorEncoding(embed_len, key_len, base)
        self.n = primes[0] * primes[1]
        if any(prime.bit_length() != key_len for prime in primes) or self._encoding.largest_sum() >= self.n:
            raise InvalidArgument(f"the primes have not {key_len} bits each, or their product holds no encoded vector")
        self._width = row_width(self.n * self.n)
        # One prime gives the sum modulo p, which is the sum itself only where every sum is below p. Base 3 has no
        # invalid digit, so its only check is the size of the whole sum: it always needs both primes.
        self._one_prime = base == "base4" and self._encoding.largest_sum() < primes[0]

    @property
    def embed_len(self) -> int:
        """The number of positions of the vectors."""
        return self._encoding.embed_len

    @property
    def key_len(self) -> int:
        """The length of each prime in bits."""
        return self._key_len

    def encrypt_vec_one(self, vector: Any) -> EncryptedIndex:
        """The encrypted index of one binary vector of `embed_len` positions.

        Every call draws a fresh nonce: the same vector never looks the same twice. Raises `InvalidVector`.
        """
        return self.encrypt_vec_batch([vector])[0]

    def encrypt_vec_batch(self, vectors: Any) -> EncryptedIndexBatch:
        """The encrypted indexes of n binary vectors (an `(n, embed_len)` array or a sequence of vectors), in order."""
        raise NotImplementedError

    def stored_rows_query(self) -> list[bytes]:
        """The query that the service answers with the stored rows themselves: the product with 1 changes nothing."""
        return [b"\x01"] * self._encoding.count

    # Decryption

    def decode_hamming_client_one(
        self, ciphertexts: Sequence[Ciphertext], nonce: bytes | None = None, query: EncryptedQuery | None = None
    ) -> int:
        """The Hamming distance between the query and the chunk of that nonce, from the service's answer for it.

        Contexts of other clients need the ciphertexts alone. Raises `InvalidRows` if the answer is not the sum of the
        two, and `InvalidArgument` where the nonce or the query is missing.
        """
        return int(self.decode_hamming_client_batch([ciphertexts], [nonce], query)[0])

    def decode_hamming_client_batch(
        self, rows: Answers, nonces: Nonces | None = None, query: EncryptedQuery | None = None
    ) -> Distances:
        """The distances `(n,)` int64, 0 to `embed_len`, of the service's answers, each with its chunk's nonce.

        `rows` are sequences of integers or of little-endian bytes, one ciphertext each. Contexts of other clients need
        the rows alone. Raises `InvalidRows`, with the positions of the bad rows, after all were processed, and
        `InvalidArgument` where the query is missing. Reads under both primes; `read_distances` is twice as fast and
        enough for ranking, before the rows that matter are confirmed.
        """
        distances, valid = self._read(rows, [None] * len(rows) if nonces is None else nonces, query, one_prime=False)
        if not valid.all():
            raise InvalidRows([int(i) for i in np.flatnonzero(~valid)])
        return distances

    def read_distances(
        self, rows: Answers, nonces: Nonces, query: EncryptedQuery
    ) -> tuple[Distances, NDArray[np.bool_]]:
        """`(distances, valid)` for all rows, under one prime where that suffices.

        Every row is processed in the same way whether it is valid or not, because an answer that stops early tells
        the server about the key (decryption modulo one prime is Okamoto-Uchiyama's).
        """
        return self._read(rows, nonces, query, one_prime=self._one_prime)

    def confirm_distances(
        self, rows: Answers, nonces: Nonces, query: EncryptedQuery
    ) -> tuple[Distances, NDArray[np.bool_]]:
        """`(distances, valid)` under both primes: what a row must pass before anything is done because of it."""
        return self._read(rows, nonces, query, one_prime=False)

    def decrypt_vec_batch(self, rows: Answers, nonces: Nonces) -> tuple[Bits, NDArray[np.bool_]]:
        """`(vectors, valid)`: the vectors `(n, embed_len)` that stored indexes encrypt, each with its chunk's nonce.

        Under both primes. The vector of a row that is not valid means nothing.
        """
        packed, valid = self._vectors(rows, nonces, None, one_prime=False)
        return self._encoding.unpack(packed), valid

    def _read(
        self, rows: Answers, nonces: Nonces, query: EncryptedQuery | None, one_prime: bool
    ) -> tuple[Distances, NDArray[np.bool_]]:
        raise NotImplementedError

    def _vectors(
        self, rows: Answers, nonces: Nonces, query: EncryptedQuery | None, one_prime: bool
    ) -> tuple[PackedBits, NDArray[np.bool_]]:
        """The vectors of all rows without the query, and which rows are exactly what they should be."""
        sums, good = self._sums(rows, nonces, query, one_prime)
        packed, valid = self._encoding.vectors(sums, None if query is None else query.bits)
        return packed, valid & good & self._authenticated(nonces, packed)

    def _sums(
        self, rows: Answers, nonces: Nonces, query: EncryptedQuery | None, one_prime: bool
    ) -> tuple[list[Rows], NDArray[np.bool_]]:
        """For each ciphertext of the rows its message, and which rows are products of such noise as they should be."""
        if len(rows) != len(nonces):
            raise InvalidArgument(f"got {len(rows)} rows but {len(nonces)} nonces; the counts must match")
        products, well_formed = self._products(rows)
        sums, good = self._messages(products, nonces, query, one_prime)
        return sums, good & well_formed

    def _messages(
        self, products: Rows, nonces: Nonces, query: EncryptedQuery | None, one_prime: bool
    ) -> tuple[list[Rows], NDArray[np.bool_]]:
        """The same for products that are well-formed."""
        raise NotImplementedError

    def _authenticated(self, nonces: Nonces, packed: PackedBits) -> NDArray[np.bool_]:
        """Which nonces were made for these vectors."""
        raise NotImplementedError

    def _products(self, rows: Answers) -> tuple[Rows, NDArray[np.bool_]]:
        """`(n, count, width)` and whether each row has as many ciphertexts as it should, each between 0 and n²."""
        count, width = self._encoding.count, self._width
        good = np.ones(len(rows), dtype=np.bool_)
        if isinstance(rows, np.ndarray):
            if rows.dtype != np.uint8 or rows.shape[1:2] != (count,) or rows.shape[2] > width:
                return np.zeros((len(rows), count, width), dtype=np.uint8), ~good
            if rows.shape[2] < width:  # by chance all are small
                rows = np.pad(rows, ((0, 0), (0, 0), (0, width - rows.shape[2])))
            return rows, np.asarray(_below(rows, self.n * self.n).all(axis=1))
        data = []
        for i, row in enumerate(rows):
            parts = [_little_endian(ciphertext) for ciphertext in row]
            if len(parts) != count or any(len(part) > width for part in parts):
                good[i] = False
                parts = [b""] * count
            data += [part.ljust(width, b"\0") for part in parts]
        products = np.frombuffer(b"".join(data), dtype=np.uint8).reshape(len(rows), count, width)
        return products, good & _below(products, self.n * self.n).all(axis=1)

    def _bits(self, vectors: Any) -> Bits:
        try:
            bits = np.asarray(_lists_joined(vectors))
        except ValueError:
            bits = np.empty(())
        if bits.ndim >= 1 and not len(bits):
            bits = np.empty((0, self.embed_len), dtype=np.uint8)
        if bits.ndim != 2:
            raise InvalidVector(f"got no vectors of equal length, expected vectors of {self.embed_len} positions")
        if bits.shape[1] != self.embed_len:
            raise InvalidVector(
                f"got a vector of {bits.shape[1]} positions, expected {self.embed_len}, the context's embedding length"
            )
        # Bytes are taken as they are; of other numbers each is looked at.
        if bits.dtype == np.uint8:
            binary = bits.max(initial=0) <= 1
        else:
            binary = bits.dtype.kind in "biuf" and ((bits == 0) | (bits == 1)).all()
        if not binary:
            raise InvalidVector("got a vector with elements other than 0 and 1, expected a binary vector: binarise it")
        return np.ascontiguousarray(bits, dtype=np.uint8)


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

    def public_key(self) -> dict[str, Any]:
        """`{"n": decimal digits}`. Digits, because few JSON readers take integers of this size."""
        return {"n": str(self.n)}

    def config(self) -> dict[str, Any]:
        """The parameters that are not secret, for the context's `config`."""
        return {"embed_len": self.embed_len, "key_len": self._key_len, "encoding": self._encoding.base}

    @property
    def hedge(self) -> Hedge:
        """The context's source of randomness."""
        return self._keys.hedge

    def secrets(self) -> dict[str, str]:
        """The primes and the keys of nonces, noise and randomness, in hexadecimal."""
        p, q = self._sides
        return {
            "p": f"{p.prime:x}",
            "q": f"{q.prime:x}",
            **self._keys.secrets(),
        }

    # Encryption

    def encrypt_vec_batch(self, vectors: Any) -> EncryptedIndexBatch:
        """The encrypted indexes of n binary vectors (an `(n, embed_len)` array or a sequence of vectors), in order."""
        bits = self._bits(vectors)
        return self._encrypt_with_nonces(bits, self._keys.nonces(self._encoding.pack(bits)))

    def encrypt_query(self, vector: Any) -> EncryptedQuery:
        """An encrypted query for one search. Its noise is fresh, and kept to read that search's distances with."""
        bits = self._bits([vector])
        noise = [(self._query_noise(bits, t, 0), self._query_noise(bits, t, 1)) for t in range(self._encoding.count)]
        return self._encrypt_query_with_noise(bits, noise)

    def _query_noise(self, bits: Bits, ciphertext: int, prime: int) -> int:
        side, packed = self._sides[prime], self._encoding.pack(bits).tobytes()
        # 128 bits more than the order: uniform but for a bias of 2^-128.
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
            self._expect(ciphertexts[one], nonces[one], [rows[one] for rows in messages])
        return EncryptedIndexBatch(ciphertexts, nonces)

    def _encrypt_query_with_noise(self, bits: Bits, noise: list[tuple[int, int]]) -> EncryptedQuery:
        ciphertexts = []
        for t, message in enumerate(self._encoding.encode(bits)):
            rows = [as_rows([noise[t][i]], self._noise_width(i)) for i in (0, 1)]
            ciphertext = self._encrypt(message, (rows[0], rows[1]))
            for i, side in enumerate(self._sides):
                read, valid = side.read(ciphertext, rows[i], side.no_noise())
                self._expect_messages(i, read, valid, message)
            ciphertexts.append(ciphertext.tobytes().rstrip(b"\0"))
        return EncryptedQuery(ciphertexts, bits, noise)

    def _encrypt(self, messages: Rows, noise: tuple[Rows, Rows]) -> Rows:
        halves = []
        for side, without_noise, own in zip(self._sides, self._without_noise, noise, strict=True):
            half = side.encrypt(messages, own)
            if (half == without_noise(messages)).all(axis=1).any():  # comes by chance once in 2^224 ciphertexts
                raise FaultDetected("a vector was encrypted without noise, so it was not sent: this machine errs")
            halves.append(half)
        return self._join_ciphertexts(halves[0], halves[1])

    def _expect(self, ciphertexts: Rows, nonces: Rows, messages: list[Rows]) -> None:
        # A fault in one half of the Chinese remainder would give the key away to whoever sees the ciphertext
        # (Boneh, DeMillo, Lipton, EUROCRYPT 1997), so one row of each batch is read back before it leaves.
        noise = self._noise_of(nonces)
        for t, message in enumerate(messages):
            for i, side in enumerate(self._sides):
                read, valid = side.read(np.ascontiguousarray(ciphertexts[:, t]), noise[t][i], side.no_noise())
                self._expect_messages(i, read, valid, message)

    def _expect_messages(self, prime: int, read: Rows, valid: NDArray[np.bool_], messages: Rows) -> None:
        if not (valid.all() and np.array_equal(read, self._residues[prime](messages))):
            raise FaultDetected(
                "a vector just encrypted does not decrypt to itself, so it was not sent: this machine computes wrongly"
            )

    # Decryption

    def _read(
        self, rows: Answers, nonces: Nonces, query: EncryptedQuery | None, one_prime: bool
    ) -> tuple[Distances, NDArray[np.bool_]]:
        if query is None:
            raise InvalidArgument(
                "the query is missing: rows of a native context are read with the nonce and the query that they belong "
                "to, decode_hamming_client_one(ciphertexts, nonce, query), which authenticates them"
            )
        packed, valid = self._vectors(rows, nonces, query, one_prime)
        differing = np.bitwise_count(packed ^ self._encoding.pack(query.bits))
        return differing.sum(axis=1, dtype=np.int64), valid

    def _messages(
        self, products: Rows, nonces: Nonces, query: EncryptedQuery | None, one_prime: bool
    ) -> tuple[list[Rows], NDArray[np.bool_]]:
        nonce_rows, valid = _nonce_rows(nonces)
        p, q = self._sides
        integers = self._keys.integers(nonce_rows, self._encoding.count, p.order_bits)
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
        rows, well_formed = _nonce_rows(nonces)
        return self._keys.authenticated(rows, packed) & well_formed

    def _noise_of(self, nonces: Rows) -> list[tuple[Rows, Rows]]:
        p, q = self._sides
        integers = self._keys.integers(nonces, self._encoding.count, p.order_bits)
        return [(p.noise_from(for_p), q.noise_from(for_q)) for for_p, for_q in integers]

    def _noise_width(self, prime: int) -> int:
        return -(-self._sides[prime].order_bits // 8)


def _query_noise(query: EncryptedQuery | None, ciphertext: int, prime: int, side: PrimeSide) -> int:
    return side.no_noise() if query is None else query.noise(ciphertext, prime)


@contextmanager
def reading_secrets() -> Iterator[None]:
    """Turns what goes wrong while a key is put together again into `InvalidContext`, without its values."""
    try:
        yield
    except (KeyError, ValueError, TypeError, ZeroDivisionError, InvalidArgument):
        raise InvalidContext("the context's secret or config lacks a value, or they do not fit together") from None


def check_key_len(key_len: int, insecure_allow_weak_parameters: bool) -> None:
    """Raises `WeakParameters` for primes too short to be secure (or, with the insecure flag, to work at all)."""
    lowest = MIN_INSECURE_KEY_LEN if insecure_allow_weak_parameters else MIN_KEY_LEN
    if not lowest <= key_len <= MAX_KEY_LEN or key_len % 2:
        raise WeakParameters(
            f"key_len is {key_len}, expected an even number of bits from {lowest} to {MAX_KEY_LEN}: "
            "1024 gives 112-bit security, 1536 gives 128-bit"
        )


def _little_endian(ciphertext: Ciphertext) -> bytes:
    if isinstance(ciphertext, bytes):
        return ciphertext
    if ciphertext < 0:
        return b""
    return int(ciphertext).to_bytes((int(ciphertext).bit_length() + 7) // 8, "little")


def _lists_joined(vectors: Any) -> Any:
    """Lists of small integers as an array, several times as fast as NumPy does it; anything else as it is."""
    if not isinstance(vectors, list) or not vectors or not all(type(vector) is list for vector in vectors):
        return vectors
    try:
        rows = [bytes(vector) for vector in vectors]
    except (TypeError, ValueError):
        return vectors
    width = len(rows[0])
    if not width or any(len(row) != width for row in rows):
        return vectors
    return np.frombuffer(b"".join(rows), dtype=np.uint8).reshape(len(rows), width)


def _below(rows: Rows, bound: int) -> NDArray[np.bool_]:
    """Whether each little-endian integer along the last axis is between 0 and the bound, both excluded."""
    return arithmetic.below(rows.reshape(-1, rows.shape[-1]), bound).reshape(rows.shape[:-1])


def _nonce_rows(nonces: Nonces) -> tuple[Rows, NDArray[np.bool_]]:
    if isinstance(nonces, np.ndarray):
        fits = nonces.dtype == np.uint8 and nonces.shape[1:] == (NONCE_BYTES,)
        return (
            nonces if fits else np.zeros((len(nonces), NONCE_BYTES), dtype=np.uint8),
            np.full(len(nonces), fits, dtype=np.bool_),
        )
    good = np.array([isinstance(nonce, bytes) and len(nonce) == NONCE_BYTES for nonce in nonces], dtype=np.bool_)
    data = b"".join(
        [nonce if nonce is not None and ok else bytes(NONCE_BYTES) for nonce, ok in zip(nonces, good, strict=True)]
    )
    return np.frombuffer(data, dtype=np.uint8).reshape(len(nonces), NONCE_BYTES), good
