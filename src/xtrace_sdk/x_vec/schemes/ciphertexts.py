"""Encrypted vectors on the client: arrays with the interface of sequences of integers. They contain no secrets."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np

from xtrace_core.arithmetic import Rows

DIGEST_BYTES = 16


def row_digest(ciphertexts: Iterable[bytes], nonce: bytes | None) -> bytes:
    """Identifies a stored encrypted vector, regardless of the width of its ciphertexts (docs/formats.md).

    Collisions are useless to an attacker: rows are accepted only if they are valid under secret keys.
    """
    parts = [nonce or b"", *(ciphertext.rstrip(b"\0") for ciphertext in ciphertexts)]
    joined = b"".join([len(part).to_bytes(2) + part for part in parts])
    return hashlib.sha256(joined).digest()[:DIGEST_BYTES]


class EncryptedIndex(Sequence[int]):
    """One encrypted vector: a sequence of integer ciphertexts, with the nonce from which its noise is derived."""

    __slots__ = ("_ciphertexts", "nonce")

    def __init__(self, ciphertexts: Rows, nonce: bytes) -> None:
        """`ciphertexts` has shape `(count, width)`, little-endian."""
        self._ciphertexts = ciphertexts
        self.nonce = nonce

    def ciphertexts(self) -> list[bytes]:
        """Returns the ciphertexts in their wire format: little-endian bytes without padding."""
        return [row.tobytes().rstrip(b"\0") for row in self._ciphertexts]

    def __len__(self) -> int:
        return len(self._ciphertexts)

    @overload
    def __getitem__(self, position: int) -> int: ...
    @overload
    def __getitem__(self, position: slice) -> list[int]: ...
    def __getitem__(self, position: int | slice) -> int | list[int]:
        if isinstance(position, slice):
            return [int.from_bytes(row.tobytes(), "little") for row in self._ciphertexts[position]]
        return int.from_bytes(self._ciphertexts[position].tobytes(), "little")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, EncryptedIndex):
            return NotImplemented
        return self.nonce == other.nonce and np.array_equal(self._ciphertexts, other._ciphertexts)

    def __hash__(self) -> int:
        return hash(self.nonce)

    def __repr__(self) -> str:
        return f"<EncryptedIndex of {len(self)} ciphertexts>"


class EncryptedIndexBatch(Sequence[EncryptedIndex]):
    """The encrypted vectors of one batch in one array; its elements are views, created on access."""

    __slots__ = ("nonces", "rows")

    def __init__(self, rows: Rows, nonces: Rows) -> None:
        """`rows` has shape `(n, count, width)`, little-endian; `nonces` `(n, 30)`, or `(n, 0)` without."""
        self.rows = rows
        self.nonces = nonces

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, position: int) -> EncryptedIndex: ...
    @overload
    def __getitem__(self, position: slice) -> "EncryptedIndexBatch": ...
    def __getitem__(self, position: int | slice) -> "EncryptedIndex | EncryptedIndexBatch":
        if isinstance(position, slice):
            return EncryptedIndexBatch(self.rows[position], self.nonces[position])
        return EncryptedIndex(self.rows[position], self.nonces[position].tobytes())

    def __iter__(self) -> Iterator[EncryptedIndex]:
        nonces, width = self.nonces.tobytes(), self.nonces.shape[1]
        for i, rows in enumerate(self.rows):
            yield EncryptedIndex(rows, nonces[i * width : (i + 1) * width])

    def __repr__(self) -> str:
        return f"<EncryptedIndexBatch of {len(self)} vectors>"
