"""HMAC-SHA-256 of many short messages under one key."""

import hashlib
from typing import Final

from xtrace_sdk.x_vec.keys.secrecy import Secretive

_BLOCK_BYTES: Final = 64
_INNER: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER: Final = bytes(byte ^ 0x5C for byte in range(256))


class Mac(Secretive):
    """Computes HMAC-SHA-256 (RFC 2104) under one key.

    The key is hashed once. `hmac.digest` hashes it, and looks up the algorithm, at each call, which takes longer than
    a short message.
    """

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes) -> None:
        if len(key) > _BLOCK_BYTES:
            key = hashlib.sha256(key).digest()
        block = key.ljust(_BLOCK_BYTES, b"\0")
        self._inner = hashlib.sha256(block.translate(_INNER))
        self._outer = hashlib.sha256(block.translate(_OUTER))

    def digest(self, message: bytes) -> bytes:
        """Returns the tag of the message, 32 bytes."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(message)
        outer.update(inner.digest())
        return outer.digest()
