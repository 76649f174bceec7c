"""AES-CMAC (NIST SP 800-38B, RFC 4493) of many messages of one length at once."""

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from numpy.typing import NDArray

from xtrace_core.arithmetic import Rows
from xtrace_sdk.x_vec.keys.secrecy import Secretive

BLOCK_BYTES = 16
_POLYNOMIAL = 0x87  # x^128 + x^7 + x^2 + x + 1, without x^128

_BLOCK = np.dtype((np.void, BLOCK_BYTES))
"""One block as one item, which NumPy moves as a whole."""


class Cmac(Secretive):
    """The code under one key. Several threads may use it at once."""

    __slots__ = ("_idle", "_key", "_partial", "_whole")

    def __init__(self, key: bytes) -> None:
        self._key = key
        first = self._new()
        self._whole, self._partial = _subkeys(first)
        self._idle = [first]
        """Contexts that no thread is using: making one takes as long as the codes of some hundred messages."""

    def codes(self, messages: Rows) -> Rows:
        """The authentication codes `(n, 16)` of messages `(n, length)` of at least one byte each.

        All rows go through AES together, with one call for each block, so a row costs a fraction of a microsecond.
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
    """The first block of every message one after another, then the second ones, and so on: `(blocks, 2·n)`.

    The last ones are padded, and have the subkey for a whole or a partial block added to them.
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
    """What is added to a last block that is whole, and to one that was padded (SP 800-38B, section 6.1)."""
    first = _doubled(int.from_bytes(aes.update(bytes(BLOCK_BYTES)), "big"))
    return _block(first), _block(_doubled(first))


def _doubled(element: int) -> int:
    """The element of GF(2^128) times x."""
    return (element << 1 ^ (element >> 127) * _POLYNOMIAL) & ((1 << 128) - 1)


def _block(element: int) -> Rows:
    return np.frombuffer(element.to_bytes(BLOCK_BYTES, "big"), dtype=np.uint8)
