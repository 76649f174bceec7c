"""AES-CMAC (NIST SP 800-38B, RFC 4493) of many messages of equal length at once."""

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from numpy.typing import NDArray

from xtrace_core.arithmetic import Rows
from xtrace_sdk.x_vec.keys.secrecy import Secretive

BLOCK_BYTES = 16
_POLYNOMIAL = 0x87  # x^128 + x^7 + x^2 + x + 1, without x^128

_BLOCK = np.dtype((np.void, BLOCK_BYTES))
"""One block as one item, which NumPy copies as a unit."""


class Cmac(Secretive):
    """Computes the code under one key. Safe for concurrent use by several threads."""

    __slots__ = ("_idle", "_key", "_partial", "_whole")

    def __init__(self, key: bytes) -> None:
        self._key = key
        first = self._new()
        self._whole, self._partial = _subkeys(first)
        self._idle = [first]
        """Idle cipher contexts: creating one takes as long as the codes of a hundred messages."""

    def codes(self, messages: Rows) -> Rows:
        """Returns the authentication codes `(n, 16)` of messages `(n, length)` of at least one byte each.

        One call of AES processes a block of all rows, so a row costs a fraction of a microsecond.
        """
        aes, count = self._idle_or_new(), len(messages)
        state = np.zeros(count * BLOCK_BYTES + BLOCK_BYTES - 1, dtype=np.uint8)  # as long as `update_into` asks for
        codes, output = state[: count * BLOCK_BYTES], state.data
        words = codes.view(np.uint64)
        for column in _columns(messages, self._whole, self._partial):
            np.bitwise_xor(words, column, out=words)
            aes.update_into(codes.tobytes(), output)
        self._idle.append(aes)
        return codes.reshape(count, BLOCK_BYTES)

    def _idle_or_new(self) -> CipherContext:
        try:
            return self._idle.pop()
        except IndexError:
            return self._new()

    def _new(self) -> CipherContext:
        # ECB is AES itself, applied to each block.
        return Cipher(algorithms.AES256(self._key), modes.ECB()).encryptor()  # noqa: S305


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


def _subkeys(aes: CipherContext) -> tuple[Rows, Rows]:
    """Returns the subkeys for a complete and for a padded last block (SP 800-38B, section 6.1)."""
    first = _doubled(int.from_bytes(aes.update(bytes(BLOCK_BYTES)), "big"))
    return _block(first), _block(_doubled(first))


def _doubled(element: int) -> int:
    """Multiplies the element of GF(2^128) by x."""
    return (element << 1 ^ (element >> 127) * _POLYNOMIAL) & ((1 << 128) - 1)


def _block(element: int) -> Rows:
    return np.frombuffer(element.to_bytes(BLOCK_BYTES, "big"), dtype=np.uint8)
