"""Random ring elements from a key: the key stream is AES-256 in counter mode from zero (docs/formats.md, "Blocks")."""

import math
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

_RESIDUE_MASK: Final = np.uint32((1 << 30) - 1)


def stream(key: bytes, size: int) -> NDArray[np.uint8]:
    """Returns the first bytes of the key stream."""
    cipher = Cipher(algorithms.AES256(key), modes.CTR(bytes(16)))
    return np.frombuffer(cipher.encryptor().update(bytes(size)), np.uint8)


def uniform(key: bytes, shape: tuple[int, ...], prime: int) -> NDArray[np.uint32]:
    """Returns residues: the low 30 bits of the words of the stream, without those that are not below the prime."""
    count = math.prod(shape)
    words = stream(key, 4 * _with_spare(count)).view("<u4") & _RESIDUE_MASK
    return words[words < prime][:count].astype(np.uint32).reshape(shape)


def ternary(key: bytes, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Returns 0, 1 and 2, which stand for -1, 0 and 1: the bytes of the stream modulo 3, without those that are 255."""
    count = math.prod(shape)
    drawn = stream(key, _with_spare(count))
    return (drawn[drawn < 255][:count] % 3).reshape(shape)


def words_of(key: bytes, shape: tuple[int, ...]) -> NDArray[np.uint32]:
    """Returns the words of the stream, which stand for centred binomials of variance 8 (`Noisy`)."""
    return stream(key, 4 * math.prod(shape)).view("<u4").astype(np.uint32, copy=False).reshape(shape)


def _with_spare(count: int) -> int:
    # Of the bytes, one in 256 is left out, of the words one in 89 at most; that more than one in 16 is does not happen.
    return count + count // 16 + 64
