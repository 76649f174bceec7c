"""AES-CMAC (NIST SP 800-38B, RFC 4493) of many messages of equal length at once."""

import numpy as np
from numpy.typing import NDArray

from xtrace_core.arithmetic import Rows
from xtrace_sdk.x_vec.keys.aes import BLOCK_BYTES, Aes
from xtrace_sdk.x_vec.keys.secrecy import Secretive

_POLYNOMIAL = 0x87  # x^128 + x^7 + x^2 + x + 1, without x^128

_BLOCK = np.dtype((np.void, BLOCK_BYTES))
"""One block as one item, which NumPy copies as a unit."""


class Cmac(Secretive):
    """Computes the code under one key. Safe for concurrent use by several threads."""

    __slots__ = ("_aes", "_partial", "_whole")

    def __init__(self, key: bytes) -> None:
        self._aes = Aes(key)
        # The subkeys for a complete and for a padded last block (SP 800-38B, section 6.1).
        self._whole = doubled(np.frombuffer(self._aes.encrypt(bytes(BLOCK_BYTES)), dtype=np.uint8))
        self._partial = doubled(self._whole)

    def codes(self, messages: Rows) -> Rows:
        """Returns the authentication codes `(n, 16)` of messages `(n, length)` of at least one byte each.

        One call of AES processes a block of all rows, so a row costs a fraction of a microsecond.
        """
        count = len(messages)
        state = np.zeros(count * BLOCK_BYTES + BLOCK_BYTES - 1, dtype=np.uint8)  # as long as `update_into` asks for
        codes, output = state[: count * BLOCK_BYTES], state.data
        words = codes.view(np.uint64)
        for column in _columns(messages, self._whole, self._partial):
            np.bitwise_xor(words, column, out=words)
            self._aes.encrypt_into(codes.tobytes(), output)
        return codes.reshape(count, BLOCK_BYTES)


def _columns(messages: Rows, whole: Rows, partial: Rows) -> NDArray[np.uint64]:
    """Returns the first blocks of all messages, then the second ones, and so on: `(blocks, 2·n)`.

    The last blocks are padded, and the subkey for a complete or partial block is added to them.
    """
    count, length = messages.shape
    full, rest = divmod(length, BLOCK_BYTES)
    columns = np.zeros((-(-length // BLOCK_BYTES), count, BLOCK_BYTES), dtype=np.uint8)
    columns[:full].view(_BLOCK)[:, :, 0] = messages[:, : full * BLOCK_BYTES].view(_BLOCK).T
    if rest:
        columns[-1, :, :rest] = messages[:, full * BLOCK_BYTES :]
        columns[-1, :, rest] = 0x80
    columns[-1] ^= partial if rest else whole
    return columns.reshape(len(columns), count * BLOCK_BYTES).view(np.uint64)


def doubled(block: Rows) -> Rows:
    """Multiplies a block, as an element of GF(2^128), by x."""
    element = int.from_bytes(block.tobytes(), "big")
    product = (element << 1 ^ (element >> 127) * _POLYNOMIAL) & ((1 << 128) - 1)
    return np.frombuffer(product.to_bytes(BLOCK_BYTES, "big"), dtype=np.uint8)
