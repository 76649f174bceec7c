"""A scheme without encryption behind both interfaces: it separates faults of search from faults of cryptography.

What is stored for a vector is its bits, eight to a byte, and a last byte of 1. The service computes nothing: queries
have no ciphertexts, and the answer to any number of them is the stored rows, which the client compares in the clear. A
nonce is 16 random bytes and a digest of them and the vector, so a row that was changed by accident is noticed. There is
no key, and nothing is protected.
"""

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Self

import numpy as np

from xtrace_core.arithmetic import Rows
from xtrace_core.schemes.interface import EvaluationFactory, InvalidCiphertext, InvalidPublicKey, Query
from xtrace_sdk.errors import InvalidAnswer
from xtrace_sdk.x_vec.keys.hedging import Hedge
from xtrace_sdk.x_vec.schemes.ciphertexts import EncryptedIndex, EncryptedIndexBatch
from xtrace_sdk.x_vec.schemes.interface import Answers, Bits, Distances, Nonces, SchemeParameters, Valid

NAME: Final = "plain"
TYPE: Final = "InsecurePlain"
_LAST: Final = b"\1"


def row_bytes(embed_len: int) -> int:
    return -(-embed_len // 8) + len(_LAST)


class PlainEvaluation:
    """The service's half."""

    blocks: Final = None

    def __init__(self, pk: str) -> None:
        embed_len = json.loads(pk).get("embed_len")
        if not isinstance(embed_len, int) or not 1 <= embed_len <= 4096:
            raise InvalidPublicKey("pk has no embed_len from 1 to 4096")
        self.row_bytes = row_bytes(embed_len)

    def row(self, index: Sequence[bytes]) -> bytes:
        if len(index) != 1 or len(index[0]) != self.row_bytes:
            raise InvalidCiphertext(f"expected one row of {self.row_bytes} bytes")
        return index[0]

    def index(self, row: bytes) -> list[bytes]:
        return [row]

    def check_query(self, query: Query, row_bytes: int | None) -> None:
        if query:
            raise InvalidCiphertext("expected a query without ciphertexts")

    def answer_shape(self, queries: Sequence[Query]) -> tuple[int, int]:
        return 1, self.row_bytes

    def evaluate(self, rows: Rows, queries: Sequence[Query]) -> Rows:
        return rows


class PlainClient:
    """The client's half."""

    type: ClassVar[str] = TYPE
    parameters: ClassVar[frozenset[str]] = frozenset()
    blocks: Final = None

    def __init__(self, embed_len: int, hedge: Hedge) -> None:
        self.embed_len = embed_len
        self.hedge = hedge

    @classmethod
    def create(cls, embed_len: int, parameters: SchemeParameters) -> Self:
        return cls(embed_len, Hedge.generate())

    @classmethod
    def load(cls, config: Mapping[str, Any], secret: Mapping[str, str]) -> Self:
        return cls(config["embed_len"], Hedge(bytes.fromhex(secret["hedging_key"])))

    @property
    def weakness(self) -> str:
        return "it encrypts nothing"

    def public_key(self) -> dict[str, Any]:
        # The id of a context is a hash of its public parts, so each needs some of its own.
        identity = hashlib.sha256(self.hedge.secret()).hexdigest()
        return {"embed_len": self.embed_len, "identity": identity}

    def config(self) -> dict[str, Any]:
        return {"embed_len": self.embed_len}

    def secrets(self) -> dict[str, str]:
        return {"hedging_key": self.hedge.secret().hex()}

    def encrypt_vec_one(self, vector: Any) -> EncryptedIndex:
        return self.encrypt_vec_batch([vector])[0]

    def encrypt_vec_batch(self, vectors: Any) -> EncryptedIndexBatch:
        bits = np.asarray(vectors, dtype=np.uint8).reshape(-1, self.embed_len)
        last = np.frombuffer(_LAST * len(bits), dtype=np.uint8).reshape(len(bits), len(_LAST))
        rows = np.concatenate([np.packbits(bits, axis=1), last], axis=1)
        nonces = b"".join([_nonce(secrets.token_bytes(16), row.tobytes()) for row in rows])
        return EncryptedIndexBatch(rows[:, None, :], np.frombuffer(nonces, dtype=np.uint8).reshape(len(bits), -1))

    def decrypt_vec_batch(self, rows: Answers, nonces: Nonces) -> tuple[Bits, Valid]:
        width, data, valid = row_bytes(self.embed_len), [], []
        for row, nonce in zip(rows, nonces, strict=True):
            stored = b"".join([bytes(part) if not isinstance(part, int) else b"" for part in row])
            good = len(stored) == width and nonce is not None and bytes(nonce) == _nonce(bytes(nonce)[:16], stored)
            valid.append(good)
            data.append(stored if good else bytes(width))
        packed = np.frombuffer(b"".join(data), dtype=np.uint8).reshape(len(data), width)[:, : -len(_LAST)]
        return np.unpackbits(packed, axis=1, count=self.embed_len), np.array(valid, dtype=np.bool_)

    def stored_rows_query(self) -> list[bytes]:
        return []

    def encrypt_queries(self, vectors: Any) -> "PlainQueries":
        return PlainQueries(self, np.asarray(vectors, dtype=np.uint8).reshape(-1, self.embed_len))


class PlainQueries:
    """Queries that never leave the client."""

    def __init__(self, client: PlainClient, vectors: Bits) -> None:
        self._client = client
        self._vectors = vectors

    @property
    def sent(self) -> list[list[bytes]]:
        return [[] for _ in self._vectors]

    def __len__(self) -> int:
        return len(self._vectors)

    def read(self, rows: Rows, nonces: Nonces) -> tuple[Distances, Valid]:
        if rows.shape[1] != 1:
            raise InvalidAnswer(f"the server answered with {rows.shape[1]} rows a chunk, expected 1")
        stored, valid = self._client.decrypt_vec_batch(rows, nonces)
        distances = [(stored != query).sum(axis=1) for query in self._vectors]
        return np.array(distances, dtype=np.int64).reshape(len(self), len(rows)), valid

    def confirm(self, rows: Rows, nonces: Nonces, number: int) -> tuple[Distances, Valid]:
        distances, valid = self.read(rows, nonces)
        return distances[number], valid


def _nonce(random: bytes, row: bytes) -> bytes:
    return random + hashlib.sha256(random + row).digest()[:14]


SCHEMES: Mapping[str, EvaluationFactory] = {TYPE: PlainEvaluation}
