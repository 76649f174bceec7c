"""What every Paillier client that knows the two primes shares: the shape of vectors, and how answers are read."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xtrace_core.arithmetic import Rows, arithmetic, row_width
from xtrace_sdk.errors import InvalidAnswer, InvalidArgument, InvalidRows
from xtrace_sdk.x_vec.keys.secrecy import Secretive
from xtrace_sdk.x_vec.schemes.bits import PackedBits
from xtrace_sdk.x_vec.schemes.ciphertexts import EncryptedIndex, EncryptedIndexBatch
from xtrace_sdk.x_vec.schemes.interface import Answers, Bits, Ciphertext, Distances, Nonces, Valid
from xtrace_sdk.x_vec.schemes.paillier.encoding import Base, VectorEncoding
from xtrace_sdk.x_vec.schemes.paillier.query import EncryptedQuery
from xtrace_sdk.x_vec.schemes.rows import ciphertext_rows


class PaillierVectors(Secretive):
    """What every Paillier client that knows the two primes shares: the shape of vectors, and how answers are read."""

    __slots__ = ("_encoding", "_key_len", "_one_prime", "_width", "n")

    def __init__(self, primes: tuple[int, int], embed_len: int, key_len: int, base: Base) -> None:
        if any(prime.bit_length() != key_len for prime in primes):
            raise InvalidArgument(f"the primes do not have {key_len} bits each, the key length")
        self._key_len = key_len
        self._encoding = VectorEncoding(embed_len, key_len, base)
        self.n = primes[0] * primes[1]
        if self._encoding.largest_sum() >= self.n:
            raise InvalidArgument("the product of the primes is too small for an encoded vector of this length")
        self._width = row_width(self.n * self.n)
        # One prime gives the sum modulo p, which equals the sum only if every sum is below p. Base 3 does not have
        # invalid digits, so its only check is the size of the whole sum, which always needs both primes.
        self._one_prime = base == "base4" and self._encoding.largest_sum() < primes[0]

    @property
    def embed_len(self) -> int:
        """The number of positions of the vectors."""
        return self._encoding.embed_len

    @property
    def key_len(self) -> int:
        """The length of each prime in bits."""
        return self._key_len

    @property
    def blocks(self) -> None:
        """None: this scheme encrypts every vector by itself."""

    def encrypt_vec_one(self, vector: Any) -> EncryptedIndex:
        """Encrypts one binary vector of `embed_len` positions.

        Every call draws a fresh nonce, so equal vectors have different ciphertexts. Raises `InvalidVector`.
        """
        return self.encrypt_vec_batch([vector])[0]

    def encrypt_vec_batch(self, vectors: Any) -> EncryptedIndexBatch:
        """The encrypted indexes of n binary vectors (an `(n, embed_len)` array or a sequence of vectors), in order."""
        raise NotImplementedError

    def stored_rows_query(self) -> list[bytes]:
        """Returns a query that the service answers with the stored rows, because multiplying by 1 changes nothing."""
        return [b"\x01"] * self._encoding.count

    # Decryption

    def decode_hamming_client_one(
        self, ciphertexts: Sequence[Ciphertext], nonce: bytes | None = None, query: EncryptedQuery | None = None
    ) -> int:
        """Returns the Hamming distance between the query and the chunk with this nonce, from the service's answer.

        Contexts of other clients need only the ciphertexts. Raises `InvalidRows` if the answer is not the sum of the
        two, and `InvalidArgument` if the nonce or the query is missing.
        """
        return int(self.decode_hamming_client_batch([ciphertexts], [nonce], query)[0])

    def decode_hamming_client_batch(
        self, rows: Answers, nonces: Nonces | None = None, query: EncryptedQuery | None = None
    ) -> Distances:
        """Returns the distances `(n,)` int64, 0 to `embed_len`, from the service's answers and the chunks' nonces.

        `rows` are sequences of integers or of little-endian bytes, one ciphertext each. Contexts of other clients need
        only the rows. Raises `InvalidRows`, with the positions of the bad rows, after all were processed, and
        `InvalidArgument` if the query is missing. Decrypts under both primes; `read_distances` is twice as fast, and
        enough for ranking before the relevant rows are confirmed.
        """
        distances, valid = self._read(rows, [None] * len(rows) if nonces is None else nonces, query, one_prime=False)
        if not valid.all():
            raise InvalidRows([int(i) for i in np.flatnonzero(~valid)])
        return distances

    def read_distances(self, rows: Answers, nonces: Nonces, query: EncryptedQuery) -> tuple[Distances, Valid]:
        """Returns `(distances, valid)` for all rows, under one prime if that suffices.

        Every row is processed in the same way, whether or not it is valid, because stopping early would tell the server
        something about the key (decryption modulo one prime is Okamoto-Uchiyama's).
        """
        return self._read(rows, nonces, query, one_prime=self._one_prime)

    def confirm_distances(self, rows: Answers, nonces: Nonces, query: EncryptedQuery) -> tuple[Distances, Valid]:
        """Returns `(distances, valid)` under both primes: a row must pass this before the client acts on it."""
        return self._read(rows, nonces, query, one_prime=False)

    def encrypt_query(self, vector: Any) -> EncryptedQuery:
        """Returns an encrypted query for one search, with the values for reading that search's distances."""
        raise NotImplementedError

    def encrypt_queries(self, vectors: Any) -> "PaillierQueries":
        """The queries of one search, of at least one vector."""
        return PaillierQueries(self, [self.encrypt_query(vector) for vector in vectors])

    def decrypt_vec_batch(self, rows: Answers, nonces: Nonces) -> tuple[Bits, Valid]:
        """Returns `(vectors, valid)`: the vectors `(n, embed_len)` of stored indexes, given each chunk's nonce.

        Decrypts under both primes. Ignore the vectors of rows that are not valid.
        """
        packed, valid = self._vectors(rows, nonces, None, one_prime=False)
        return self._encoding.unpack(packed), valid

    def _read(
        self, rows: Answers, nonces: Nonces, query: EncryptedQuery | None, one_prime: bool
    ) -> tuple[Distances, Valid]:
        raise NotImplementedError

    def _vectors(
        self, rows: Answers, nonces: Nonces, query: EncryptedQuery | None, one_prime: bool
    ) -> tuple[PackedBits, Valid]:
        """Returns the vectors of all rows without the query, and which rows are valid."""
        sums, good = self._sums(rows, nonces, query, one_prime)
        packed, valid = self._encoding.vectors(sums, None if query is None else query.messages)
        return packed, valid & good & self._authenticated(nonces, packed)

    def _sums(
        self, rows: Answers, nonces: Nonces, query: EncryptedQuery | None, one_prime: bool
    ) -> tuple[list[Rows], Valid]:
        """Returns the message of each ciphertext, and which rows have the expected noise."""
        if len(rows) != len(nonces):
            raise InvalidArgument(f"got {len(rows)} rows but {len(nonces)} nonces; the counts must match")
        products, well_formed = self._products(rows)
        sums, good = self._messages(products, nonces, query, one_prime)
        return sums, good & well_formed

    def _messages(
        self, products: Rows, nonces: Nonces, query: EncryptedQuery | None, one_prime: bool
    ) -> tuple[list[Rows], Valid]:
        """Does the same for well-formed products."""
        raise NotImplementedError

    def _authenticated(self, nonces: Nonces, packed: PackedBits) -> Valid:
        """Returns which nonces were created for these vectors."""
        raise NotImplementedError

    def _products(self, rows: Answers) -> tuple[Rows, Valid]:
        """Returns `(n, count, width)`, and whether each row has the right number of ciphertexts between 0 and n²."""
        products, good = ciphertext_rows(rows, self._encoding.count, self._width)
        return products, good & _below(products, self.n * self.n).all(axis=1)


class PaillierQueries(Secretive):
    """The queries of one search: a row of the answer has the ciphertexts of the first query, then the second, …"""

    __slots__ = ("_client", "_queries")

    def __init__(self, client: PaillierVectors, queries: Sequence[EncryptedQuery]) -> None:
        self._client = client
        self._queries = queries

    @property
    def sent(self) -> list[list[bytes]]:
        """The ciphertexts of each query."""
        return [query.ciphertexts for query in self._queries]

    def __len__(self) -> int:
        return len(self._queries)

    def read(self, rows: Rows, nonces: Nonces) -> tuple[Distances, Valid]:
        """Returns `(distances, valid)`, `(queries, n)` and `(n,)`, under one prime if that suffices."""
        valid = np.ones(len(rows), dtype=np.bool_)
        distances = np.empty((len(self), len(rows)), dtype=np.int64)
        for number, query in enumerate(self._queries):
            distances[number], good = self._client.read_distances(self._answers(rows, number), nonces, query)
            valid &= good
        return distances, valid

    def confirm(self, rows: Rows, nonces: Nonces, number: int) -> tuple[Distances, Valid]:
        """Returns `(distances, valid)` for one of the queries, under both primes."""
        return self._client.confirm_distances(self._answers(rows, number), nonces, self._queries[number])

    def _answers(self, rows: Rows, number: int) -> Rows:
        """Returns the ciphertexts in each row that answer one of the queries."""
        count = len(self._queries[0].ciphertexts)
        if rows.shape[1] != count * len(self):
            raise InvalidAnswer(
                f"the server answered with {rows.shape[1]} ciphertexts a row, expected {count * len(self)}: as many "
                "as in the query"
            )
        return np.ascontiguousarray(rows[:, number * count : (number + 1) * count])


def _below(rows: Rows, bound: int) -> NDArray[np.bool_]:
    """Whether each little-endian integer along the last axis is between 0 and the bound, exclusive."""
    return arithmetic.below(rows.reshape(-1, rows.shape[-1]), bound).reshape(rows.shape[:-1])
