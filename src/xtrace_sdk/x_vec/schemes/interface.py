"""The interface of a scheme's client half: encrypting vectors and queries, and reading the service's answers.

A scheme decides what is stored for a vector, and what a search answers for it. Nothing outside a scheme assumes one
ciphertext per vector, a modulus, an answer as wide as the stored row, or that the service computes at all: if the
service answers with the stored rows themselves, queries do not have ciphertexts. The service's half is
`xtrace_core.schemes`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from xtrace_core.arithmetic import Rows
from xtrace_sdk.x_vec.keys.hedging import Hedge
from xtrace_sdk.x_vec.schemes.blocks import BlockScheme
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
"""Whether each row is valid, `(n,)`."""


@dataclass(frozen=True, slots=True)
class SchemeParameters:
    """A user's choices for a new key; None means the scheme's default."""

    key_len: int | None = None
    """Bits of each prime, for schemes that have primes."""
    alpha_len: int | None = None
    """Bits of the subgroup orders, for `paillier_lookup`."""
    insecure_allow_weak_parameters: bool = False
    in_one_ciphertext: bool = False
    """Rejects vectors that take more than one ciphertext, for schemes that spread long vectors over several."""


class EncryptedQueries(Protocol):
    """The encrypted queries of one search, with the keys for reading their answers, which never leave the object."""

    @property
    def sent(self) -> list[list[bytes]]:
        """What is sent to the service for each query: ciphertexts, little-endian without padding, or nothing."""

    def __len__(self) -> int: ...

    def read(self, rows: Rows, nonces: Nonces) -> tuple[Distances, Valid]:
        """Returns `(distances, valid)`, `(queries, n)` and `(n,)`, of answers `(n, count, width)`: enough for ranking.

        Every row is processed in the same way, whether or not it is valid. Raises `InvalidAnswer` for answers whose
        shape does not match the queries.
        """
        ...

    def confirm(self, rows: Rows, nonces: Nonces, number: int) -> tuple[Distances, Valid]:
        """Returns `(distances, valid)`, both `(n,)`, for one of the queries: a row must pass this before it is used."""
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
        """Why anyone with the public key can decrypt, as a clause; empty if no one can."""

    @property
    def blocks(self) -> BlockScheme | None:
        """What the scheme does with many vectors encrypted together; None for schemes without blocks."""

    def public_key(self) -> dict[str, Any]:
        """Returns what the service needs; stored as `pk`."""

    def config(self) -> dict[str, Any]:
        """Returns the parameters that are not secret; stored as `config`."""

    def secrets(self) -> dict[str, str]:
        """Returns the secret parameters, only for encryption under the key provider's key."""

    def encrypt_vec_one(self, vector: Any) -> EncryptedIndex: ...
    def encrypt_vec_batch(self, vectors: Any) -> EncryptedIndexBatch: ...

    def decrypt_vec_batch(self, rows: Answers, nonces: Nonces) -> tuple[Bits, Valid]:
        """Returns the vectors `(n, embed_len)` of stored rows, given each chunk's nonce."""
        ...

    def stored_rows_query(self) -> list[bytes]:
        """Returns a query without encrypted content, which the service answers with the stored rows."""
        ...

    def encrypt_queries(self, vectors: Any) -> EncryptedQueries:
        """Encrypts the queries of one search, at least one vector; each search encrypts its queries again."""
        ...
