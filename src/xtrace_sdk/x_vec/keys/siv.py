"""AES-SIV (RFC 5297) with 256-bit keys, of many messages of equal length at once.

It authenticates each message with one associated string, and reveals nothing but equality if a pair of the two repeats.
"""

import numpy as np
from numpy.typing import NDArray

from xtrace_core.arithmetic import Rows
from xtrace_sdk.x_vec.keys.aes import BLOCK_BYTES, Aes
from xtrace_sdk.x_vec.keys.cmac import Cmac, doubled
from xtrace_sdk.x_vec.keys.secrecy import Secretive

TAG_BYTES = BLOCK_BYTES
_COUNTER_MASK = np.array([255] * 8 + [127] + [255] * 3 + [127] + [255] * 3, dtype=np.uint8)
"""Clears the two bits that RFC 5297, section 2.5, clears, so that the last eight bytes never overflow."""


class Siv(Secretive):
    """Seals and opens under one pair of keys. Messages are whole blocks. Safe for concurrent use by several threads."""

    __slots__ = ("_aes", "_cmac", "_start")

    def __init__(self, mac_key: bytes, encryption_key: bytes) -> None:
        self._cmac = Cmac(mac_key)
        self._aes = Aes(encryption_key)
        self._start = doubled(self._cmac.codes(np.zeros((1, BLOCK_BYTES), dtype=np.uint8)))

    def seal(self, plaintexts: Rows, associated: Rows) -> Rows:
        """Returns `tag (16 bytes) ‖ ciphertext` of each row, with its row of associated data."""
        tags = self._tags(plaintexts, associated)
        return np.concatenate([tags, plaintexts ^ self._keystream(tags, plaintexts.shape[1])], axis=1)

    def open(self, sealed: Rows, associated: Rows) -> tuple[Rows, NDArray[np.bool_]]:
        """Returns `(plaintexts, valid)`: ignore the plaintexts of rows that are not valid."""
        tags, ciphertexts = sealed[:, :TAG_BYTES], sealed[:, TAG_BYTES:]
        plaintexts = ciphertexts ^ self._keystream(tags, ciphertexts.shape[1])
        valid: NDArray[np.bool_] = (self._tags(plaintexts, associated) == tags).all(axis=1)
        return plaintexts, valid

    def _tags(self, plaintexts: Rows, associated: Rows) -> Rows:
        # S2V of one associated string (section 2.4): the plaintext's last block is changed before its code is computed.
        message = plaintexts.copy()
        message[:, -BLOCK_BYTES:] ^= self._start ^ self._cmac.codes(associated)
        return self._cmac.codes(message)

    def _keystream(self, tags: Rows, size: int) -> Rows:
        counters = np.repeat((tags & _COUNTER_MASK)[:, None], size // BLOCK_BYTES, axis=1)
        last = counters[:, :, 8:].view(">u8")
        last += np.arange(size // BLOCK_BYTES, dtype=np.uint64)[:, None]
        return np.frombuffer(self._aes.encrypt(counters.tobytes()), dtype=np.uint8).reshape(len(tags), size)
