"""The client of the scheme `lattice`: stores records, and compares those that the service sends with its queries.

Of many records it makes blocks, whose distances the service computes (blocks.py).
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np

from xtrace_core.arithmetic import Rows
from xtrace_core.schemes.lattice import PARAMETERS
from xtrace_core.schemes.registry import SchemeType
from xtrace_sdk.errors import InvalidAnswer, InvalidArgument
from xtrace_sdk.x_vec.keys.hedging import Hedge
from xtrace_sdk.x_vec.keys.secrecy import Secretive
from xtrace_sdk.x_vec.schemes.bits import PackedBits, checked_bits, differing
from xtrace_sdk.x_vec.schemes.ciphertexts import EncryptedIndex, EncryptedIndexBatch
from xtrace_sdk.x_vec.schemes.interface import Answers, Bits, Distances, Nonces, SchemeParameters, Valid
from xtrace_sdk.x_vec.schemes.lattice.blocks import LatticeBlocks
from xtrace_sdk.x_vec.schemes.lattice.keys import NONCE_BYTES, LatticeKeys
from xtrace_sdk.x_vec.schemes.lattice.records import Records, pack
from xtrace_sdk.x_vec.schemes.loading import reading_secrets
from xtrace_sdk.x_vec.schemes.rows import ciphertext_rows, nonce_rows


class LatticeClient(Secretive):
    """Key, encryption and decryption of the scheme `lattice`."""

    __slots__ = ("_keys", "_records", "blocks")

    type: ClassVar[str] = SchemeType.LATTICE.value
    parameters: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, keys: LatticeKeys) -> None:
        self._keys = keys
        self._records = Records(keys.record_keys(), keys.id, keys.embed_len)
        self.blocks = LatticeBlocks(keys)

    @classmethod
    def create(cls, embed_len: int, parameters: SchemeParameters) -> Self:
        """Creates a key. Raises `InvalidArgument` for a length outside 1 to 4096."""
        return cls(LatticeKeys.generate(embed_len))

    @classmethod
    def load(cls, config: Mapping[str, Any], secret: Mapping[str, str]) -> Self:
        """Creates the client from the results of `config` and `secrets`. Raises `InvalidContext` if they are not
        valid."""
        with reading_secrets():
            embed_len = config["embed_len"]
            if type(embed_len) is not int:
                raise TypeError("the embedding length is not an integer")
            return cls(LatticeKeys(bytes.fromhex(secret["root"]), embed_len))

    @property
    def embed_len(self) -> int:
        """The number of positions of the vectors."""
        return self._keys.embed_len

    @property
    def hedge(self) -> Hedge:
        """The context's source of randomness."""
        return self._keys.hedge

    @property
    def weakness(self) -> str:
        """Empty: the public key is a hash, from which nothing can be decrypted."""
        return ""

    def public_key(self) -> dict[str, Any]:
        """Returns what the service needs: the parameters, the length of the vectors, and the id of the root."""
        return {"parameters": PARAMETERS, "embed_len": self.embed_len, "id": self._keys.id.hex()}

    def config(self) -> dict[str, Any]:
        """Returns the parameters that are not secret, for the context's `config`."""
        return {"embed_len": self.embed_len}

    def secrets(self) -> dict[str, str]:
        """Returns the root in hexadecimal."""
        return {"root": self._keys.root.hex()}

    def encrypt_vec_one(self, vector: Any) -> EncryptedIndex:
        """Encrypts one binary vector of `embed_len` positions. Raises `InvalidVector`."""
        return self.encrypt_vec_batch([vector])[0]

    def encrypt_vec_batch(self, vectors: Any) -> EncryptedIndexBatch:
        """Encrypts n binary vectors (an `(n, embed_len)` array or a sequence of vectors), in order.

        Every call draws fresh nonces, so equal vectors have different records. Raises `InvalidVector`.
        """
        packed = pack(checked_bits(vectors, self.embed_len))
        nonces = self._keys.nonces(packed)
        return EncryptedIndexBatch(self._records.seal(packed, nonces)[:, None], nonces)

    def decrypt_vec_batch(self, rows: Answers, nonces: Nonces) -> tuple[Bits, Valid]:
        """Returns `(vectors, valid)`: the vectors `(n, embed_len)` of stored records, given each chunk's nonce.

        Ignore the vectors of records that are not valid.
        """
        packed, valid = self.open(rows, nonces)
        return self._records.unpack(packed), valid

    def open(self, rows: Answers, nonces: Nonces) -> tuple[PackedBits, Valid]:
        """Does the same, with eight positions per byte."""
        if len(rows) != len(nonces):
            raise InvalidArgument(f"got {len(rows)} rows but {len(nonces)} nonces; the counts must match")
        records, whole = ciphertext_rows(rows, 1, self._records.width)
        known, named = nonce_rows(nonces, NONCE_BYTES)
        packed, valid = self._records.open(records[:, 0], known)
        return packed, valid & whole & named

    def stored_rows_query(self) -> list[bytes]:
        """Returns a query without ciphertexts, as every query of this scheme is."""
        return []

    def encrypt_queries(self, vectors: Any) -> "LatticeQueries":
        """Returns the queries of one search, of at least one vector. Nothing of them is sent. Raises
        `InvalidVector`."""
        return LatticeQueries(self, pack(checked_bits(vectors, self.embed_len)))


class LatticeQueries(Secretive):
    """Queries that never leave the client: an answer is the stored records, which are compared here."""

    __slots__ = ("_client", "_packed")

    def __init__(self, client: LatticeClient, packed: PackedBits) -> None:
        self._client = client
        self._packed = packed

    @property
    def sent(self) -> list[list[bytes]]:
        """An empty query for each vector."""
        return [[] for _ in self._packed]

    def __len__(self) -> int:
        return len(self._packed)

    def read(self, rows: Rows, nonces: Nonces) -> tuple[Distances, Valid]:
        """Returns `(distances, valid)`, `(queries, n)` and `(n,)`. Raises `InvalidAnswer` for more than a record a
        row."""
        stored, valid = self._opened(rows, nonces)
        return np.stack([differing(stored, query[None]) for query in self._packed]), valid

    def confirm(self, rows: Rows, nonces: Nonces, number: int) -> tuple[Distances, Valid]:
        """Returns `(distances, valid)` for one of the queries."""
        stored, valid = self._opened(rows, nonces)
        return differing(stored, self._packed[number : number + 1]), valid

    def _opened(self, rows: Rows, nonces: Nonces) -> tuple[PackedBits, Valid]:
        if rows.shape[1] != 1:
            raise InvalidAnswer(f"the server answered with {rows.shape[1]} ciphertexts a row, expected one record")
        return self._client.open(rows, nonces)
