"""The service's half of both Paillier schemes: products of ciphertexts modulo n²."""

import json
from collections.abc import Sequence
from typing import Final

import numpy as np

from xtrace_core.arithmetic import Rows, arithmetic, row_width
from xtrace_core.schemes.interface import InvalidCiphertext, InvalidPublicKey, Query
from xtrace_core.schemes.prepared import prepared_factors

MIN_MODULUS_BITS: Final = 512
MAX_MODULUS_BITS: Final = 8192
FEW_ROWS: Final = 32
"""Up to this many rows, preparing a factor costs more than it saves."""
_MAX_DIGITS: Final = len(str(1 << MAX_MODULUS_BITS))


class PaillierEvaluation:
    """The encrypted Hamming sum under Paillier: the product of each stored ciphertext with the query's, modulo n².

    Paillier, "Public-Key Cryptosystems Based on Composite Degree Residuosity Classes", EUROCRYPT 1999, section 8:
    Enc(a) * Enc(b) mod n² decrypts to a + b. The first stored index fixes the number of ciphertexts of every index and
    query.
    """

    row_bytes: Final = None
    blocks: Final = None

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

    def row(self, index: Sequence[bytes]) -> bytes:
        if not index:
            raise InvalidCiphertext("the index is empty, expected at least one ciphertext")
        return b"".join([self._padded(ciphertext) for ciphertext in index])

    def index(self, row: bytes) -> list[bytes]:
        width = self._width
        return [row[i : i + width].rstrip(b"\0") for i in range(0, len(row), width)]

    def check_query(self, query: Query, row_bytes: int | None) -> None:
        if not query:
            raise InvalidCiphertext("the query is empty, expected at least one ciphertext")
        for ciphertext in query:
            self._padded(ciphertext)
        if row_bytes is not None and row_bytes != len(query) * self._width:
            stored = row_bytes // self._width
            raise InvalidCiphertext(f"the query has {len(query)} ciphertexts, expected {stored} as in each index")

    def answer_shape(self, queries: Sequence[Query]) -> tuple[int, int]:
        return sum(map(len, queries)), self._width

    def evaluate(self, rows: Rows, queries: Sequence[Query]) -> Rows:
        # One pass over the rows: a block stays in the processor's cache while each query is applied to it.
        answers = [self._products(rows, query) for query in queries]
        return answers[0] if len(answers) == 1 else np.concatenate(answers, axis=1)

    def _products(self, rows: Rows, query: Query) -> Rows:
        if len(query) == 1:
            return self._multiplied(rows, query[0])
        columns = rows.reshape(len(rows), len(query), self._width)
        answers = np.empty_like(columns)
        for t, ciphertext in enumerate(query):
            answers[:, t] = self._multiplied(np.ascontiguousarray(columns[:, t]), ciphertext)
        return answers.reshape(rows.shape)

    def _multiplied(self, rows: Rows, ciphertext: bytes) -> Rows:
        factor = int.from_bytes(self._padded(ciphertext), "little")
        if len(rows) <= FEW_ROWS:
            return arithmetic.multiply(rows, factor, self._n_squared)
        # Cached, because a search processes its rows in pieces.
        return prepared_factors.multiplier(factor, self._n_squared)(rows)

    def _padded(self, ciphertext: bytes) -> bytes:
        if len(ciphertext) > self._width:
            raise InvalidCiphertext(f"a ciphertext has {len(ciphertext)} bytes, expected at most {self._width}")
        if not 0 < int.from_bytes(ciphertext, "little") < self._n_squared:
            raise InvalidCiphertext("a ciphertext is not between 0 and n², both excluded")
        return ciphertext.ljust(self._width, b"\0")


def paillier_evaluation(pk: str) -> PaillierEvaluation:
    """Returns the evaluation for a stored `pk`, a JSON text whose `n` is an integer or its decimal digits.

    Raises `InvalidPublicKey` unless n is an odd modulus of 512 to 8192 bits.
    """
    return PaillierEvaluation(_modulus(pk))


def _modulus(pk: str) -> int:
    try:
        # Python's parser, because clients read contexts back with it: it rejects integers of more than 4,300 digits.
        key = json.loads(pk)
    except (ValueError, RecursionError):
        raise InvalidPublicKey("pk is not a JSON text with integers of at most 4,300 digits") from None
    n = key.get("n") if isinstance(key, dict) else None
    if isinstance(n, str) and n.isascii() and n.isdigit() and len(n) <= _MAX_DIGITS:
        n = int(n)
    if not isinstance(n, int) or isinstance(n, bool):
        raise InvalidPublicKey("pk does not contain a field n that is an integer or its decimal digits")
    return n
