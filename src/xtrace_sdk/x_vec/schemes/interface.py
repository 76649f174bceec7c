"""What the SDK knows of a scheme's client half: encrypting vectors and queries, and reading the service's answers.

A scheme decides what is stored for a vector and what one search answers for it. Nothing outside a scheme assumes one
ciphertext a vector, a modulus, an answer as wide as what is stored, or that the service computes anything at all: a
scheme whose service answers with the stored rows themselves sends queries without ciphertexts. The service's half is
`xtrace_core.schemes`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from xtrace_core.arithmetic import Rows
from xtrace_sdk.x_vec.keys.hedging import Hedge
from xtrace_sdk.x_vec.schemes.ciphertexts import EncryptedIndex, EncryptedIndexBatch

Bits = NDArray[np.uint8]
"""Binary vectors: shape `(n, embed_len)`, dtype uint8, every element 0 or 1."""
Distances = NDArray[np.int64]
Ciphertext = int | bytes
Answers = Rows | Sequence[Sequence[Ciphertext]]
"""Answers or stored rows: an array `(n, count, width)` of little-endian uint8, or sequences of ciphertexts."""
Nonces = Rows | Sequence[bytes | None]
"""The nonces of the answers: an array `(n, 30)` of uint8, or a sequence with None where there is none."""


Valid = NDArray[np.bool_]
"""For each row whether it is exactly what it should be, `(n,)`."""


@dataclass(frozen=True, slots=True)
class SchemeParameters:
    """What a user may choose about a new key; None leaves it to the scheme."""

    key_len: int | None = None
    """Bits of each prime, for schemes that have primes."""
    alpha_len: int | None = None
    """Bits of the subgroup orders, for `paillier_lookup`."""
    insecure_allow_weak_parameters: bool = False
    in_one_ciphertext: bool = False
    """Refuses vectors that take more than one ciphertext, for schemes that spread long ones over several."""


class EncryptedQueries(Protocol):
    """The queries of one search, encrypted, with the keys that read their answers; those never leave the object."""

    @property
    def sent(self) -> list[list[bytes]]:
        """For each query what travels to the service: ciphertexts, little-endian without padding, or nothing."""

    def __len__(self) -> int: ...

    def read(self, rows: Rows, nonces: Nonces) -> tuple[Distances, Valid]:
        """`(distances, valid)`, `(queries, n)` and `(n,)`, of answers `(n, count, width)`: good enough for ranking.

        Every row is processed in the same way whether it is valid or not. Raises `InvalidAnswer` for answers of
        another shape than such queries have.
        """
        ...

    def confirm(self, rows: Rows, nonces: Nonces, number: int) -> tuple[Distances, Valid]:
        """`(distances, valid)`, both `(n,)`, to one of the queries: what a row must pass before it is acted upon."""
        ...


class HomomorphicClient(Protocol):
    """The client's half of a scheme, with the keys of one context. Vectors are arrays or lists of 0 and 1."""

    type: ClassVar[str]
    """The name under which contexts of this scheme are stored (`xtrace_core.schemes`)."""

    @property
    def embed_len(self) -> int:
        """The number of positions of the vectors."""

    @property
    def hedge(self) -> Hedge:
        """The context's source of randomness."""

    @property
    def weakness(self) -> str:
        """Why anyone with the public key can read what it hides, as a clause; empty if that is not so."""

    def public_key(self) -> dict[str, Any]:
        """What the service needs; stored as `pk`."""

    def config(self) -> dict[str, Any]:
        """The parameters that are not secret; stored as `config`."""

    def secrets(self) -> dict[str, str]:
        """The secret parameters, for encryption under the key provider's key only."""

    def encrypt_vec_one(self, vector: Any) -> EncryptedIndex: ...
    def encrypt_vec_batch(self, vectors: Any) -> EncryptedIndexBatch: ...

    def decrypt_vec_batch(self, rows: Answers, nonces: Nonces) -> tuple[Bits, Valid]:
        """The vectors `(n, embed_len)` of stored rows, each with its chunk's nonce."""
        ...

    def stored_rows_query(self) -> list[bytes]:
        """A query that encrypts nothing, which the service answers with the rows as they are stored."""
        ...

    def encrypt_queries(self, vectors: Any) -> EncryptedQueries:
        """The queries of one search, of at least one vector; each search encrypts its queries again."""
        ...
