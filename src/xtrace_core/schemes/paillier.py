"""The service's half of a scheme: what anybody can do with ciphertexts and public data.

`evaluation_for` reads a stored context's `type` and `pk` and gives an `Evaluation`, which says how the ciphertexts of
one chunk are stored (a *row*, of a fixed width) and what one search computes from such rows. Storage, search engine
and HTTP know ciphertexts only through it, so that a scheme with another shape of ciphertext is one more class here.
"""

import json
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from xtrace_core.arithmetic import Multiplier, Rows, arithmetic, row_width

MIN_MODULUS_BITS = 512
MAX_MODULUS_BITS = 8192
MAX_PREPARED_QUERIES = 64
_MAX_DIGITS = len(str(1 << MAX_MODULUS_BITS))


class InvalidPublicKey(ValueError):
    """A public key that no search can be computed with."""


class InvalidCiphertext(ValueError):
    """An index or a query that is no sequence of ciphertexts under the context's public key."""


class Evaluation(Protocol):
    """What the service does for one context."""

    def row(self, index: Sequence[bytes]) -> bytes:
        """The ciphertexts of one chunk (little-endian, any length up to the full width), checked, as stored.

        All rows of as many ciphertexts have the same length. Raises `InvalidCiphertext`.
        """
        ...

    def index(self, row: bytes) -> list[bytes]:
        """The ciphertexts of a stored row, little-endian without padding."""
        ...

    def ciphertext_count(self, row_bytes: int) -> int:
        """How many ciphertexts a stored row of that length holds."""
        ...

    def evaluate(self, rows: Rows, query: Sequence[bytes]) -> Rows:
        """The answers to an encrypted query for stored rows, `(n, row length)` uint8, in the same order and shape.

        Raises `InvalidCiphertext` for a query that `row` would refuse or that has another number of ciphertexts.
        """
        ...


class PaillierEvaluation:
    """The encrypted Hamming sum under Paillier: the product of each stored ciphertext with the query's, modulo n².

    Paillier, "Public-Key Cryptosystems Based on Composite Degree Residuosity Classes", EUROCRYPT 1999, section 8:
    Enc(a) * Enc(b) mod n² decrypts to a + b.
    """

    def __init__(self, n: int) -> None:
        if n < 0 or not MIN_MODULUS_BITS <= n.bit_length() <= MAX_MODULUS_BITS:
            raise InvalidPublicKey(
                f"the modulus n is negative or has {n.bit_length()} bits, "
                f"expected {MIN_MODULUS_BITS} to {MAX_MODULUS_BITS}"
            )
        if n % 2 == 0:
            raise InvalidPublicKey("the modulus n is even, expected a product of two odd primes")
        self._n_squared = n * n
        self._width = row_width(self._n_squared)
        self._prepared: dict[tuple[bytes, ...], list[Multiplier]] = {}

    def row(self, index: Sequence[bytes]) -> bytes:
        if not index:
            raise InvalidCiphertext("the index is empty, expected at least one ciphertext")
        return b"".join([self._padded(ciphertext) for ciphertext in index])

    def index(self, row: bytes) -> list[bytes]:
        width = self._width
        return [row[i : i + width].rstrip(b"\0") for i in range(0, len(row), width)]

    def ciphertext_count(self, row_bytes: int) -> int:
        return row_bytes // self._width

    def evaluate(self, rows: Rows, query: Sequence[bytes]) -> Rows:
        factors = self._factors(tuple(query))
        if rows.shape[1] != len(factors) * self._width:
            stored = self.ciphertext_count(rows.shape[1])
            raise InvalidCiphertext(f"the query has {len(factors)} ciphertexts, expected {stored} as in each index")
        if len(factors) == 1:
            return factors[0](rows)
        columns = rows.reshape(len(rows), len(factors), self._width)
        answers = np.empty_like(columns)
        for t, multiplied in enumerate(factors):
            answers[:, t] = multiplied(np.ascontiguousarray(columns[:, t]))
        return answers.reshape(rows.shape)

    def _factors(self, query: tuple[bytes, ...]) -> list[Multiplier]:
        """The query's ciphertexts, prepared; kept, because the rows of a search come in pieces."""
        prepared = self._prepared.get(query)
        if prepared is None:
            numbers = [int.from_bytes(self._padded(ciphertext), "little") for ciphertext in query]
            prepared = [arithmetic.multiplier(number, self._n_squared) for number in numbers]
            if len(self._prepared) >= MAX_PREPARED_QUERIES:
                self._prepared.clear()
            self._prepared[query] = prepared
        return prepared

    def _padded(self, ciphertext: bytes) -> bytes:
        if len(ciphertext) > self._width:
            raise InvalidCiphertext(f"a ciphertext has {len(ciphertext)} bytes, expected at most {self._width}")
        if not 0 < int.from_bytes(ciphertext, "little") < self._n_squared:
            raise InvalidCiphertext("a ciphertext is not between 0 and n², both excluded")
        return ciphertext.ljust(self._width, b"\0")


def evaluation_for(type_: str, pk: str) -> Evaluation:
    """The evaluation for a stored context's `type` and `pk` (a JSON text whose `n` is an integer or its digits).

    Raises `InvalidPublicKey` for an unknown type and for a `pk` without an odd modulus of 512 to 8192 bits.
    """
    if type_ not in ("PaillierClient", "PaillierLookupClient"):
        raise InvalidPublicKey(f"the type is {type_[:64]!r}, expected PaillierClient or PaillierLookupClient")
    return PaillierEvaluation(_modulus(pk))


def _modulus(pk: str) -> int:
    try:
        # Python's own parser, because contexts are read back with it: it refuses integers of more than 4,300 digits.
        key = json.loads(pk)
    except (ValueError, RecursionError):
        raise InvalidPublicKey("pk is no JSON text that Python's json reads (integers: 4,300 digits)") from None
    n = key.get("n") if isinstance(key, dict) else None
    if isinstance(n, str) and n.isascii() and n.isdigit() and len(n) <= _MAX_DIGITS:
        n = int(n)
    if not isinstance(n, int) or isinstance(n, bool):
        raise InvalidPublicKey("pk has no field n that is an integer or its decimal digits")
    return n
