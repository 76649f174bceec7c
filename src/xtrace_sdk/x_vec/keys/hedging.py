"""Hedged randomness: the only source of nonces, IVs and noise (docs/formats.md, "Randomness").

The output is a pseudo-random function of fresh bytes from the system's generator *and* of everything that it will be
used with. If the generator repeats itself, as in a restored image of a machine, the output repeats only for equal
messages. Key generation uses only the system's generator, because no secret exists yet that could hedge it.
"""

import secrets
from collections.abc import Iterable
from typing import Self

import numpy as np
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from xtrace_core.arithmetic import Rows
from xtrace_sdk.x_vec.keys.mac import Mac
from xtrace_sdk.x_vec.keys.secrecy import Secretive

FRESH_BYTES = 32
_KEY_BYTES = 32
_BLOCK_BYTES = 32
_MAX_BLOCKS = 255


class Hedge(Secretive):
    """Draws randomness for one context under its hedging key."""

    __slots__ = ("_key", "_mac")

    def __init__(self, key: bytes) -> None:
        """Raises `ValueError` for a key that does not have 32 bytes."""
        if len(key) != _KEY_BYTES:
            raise ValueError(f"the hedging key has {len(key)} bytes, expected {_KEY_BYTES}")
        self._key = key
        self._mac = Mac(key)

    @classmethod
    def generate(cls) -> Self:
        """Creates a hedge with a new key."""
        return cls(secrets.token_bytes(_KEY_BYTES))

    @classmethod
    def derived(cls, key: bytes, label: bytes) -> Self:
        """Creates a hedge whose key is derived from another key, for data without its own hedging key."""
        return cls(HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=None, info=label).derive(key))

    def draw(self, purpose: str, parts: Iterable[bytes], size: int) -> bytes:
        """Returns `size` random bytes, at most 8,160; `parts` is everything that they will be used with."""
        return self._draw_with(secrets.token_bytes(FRESH_BYTES), purpose, parts, size)

    def draw_rows(self, purpose: str, messages: Rows, size: int) -> Rows:
        """Returns `size` separate random bytes for each message, a row of `messages`: `(n, size)`."""
        return self._draw_rows_with(secrets.token_bytes(FRESH_BYTES * len(messages)), purpose, messages, size)

    def secret(self) -> bytes:
        """Returns the hedging key, only for encryption under the key provider's key."""
        return self._key

    def _draw_with(self, fresh: bytes, purpose: str, parts: Iterable[bytes], size: int) -> bytes:
        blocks = -(-size // _BLOCK_BYTES)
        if blocks > _MAX_BLOCKS:
            raise ValueError(f"{size} bytes were asked for, expected at most {_MAX_BLOCKS * _BLOCK_BYTES}")
        # Counter mode of a pseudo-random function (NIST SP 800-108, section 4.1): HMAC-SHA-256 of the counter and one
        # message, in which each part follows its length.
        message = b"".join([_framed(purpose.encode()), fresh, *map(_framed, parts)])
        stream = [self._mac.digest(bytes([i]) + message) for i in range(1, blocks + 1)]
        return b"".join(stream)[:size]

    def _draw_rows_with(self, fresh: bytes, purpose: str, messages: Rows, size: int) -> Rows:
        # The same as `_draw_with` for each row, without an object for each part.
        if size > _BLOCK_BYTES:
            raise ValueError(f"{size} bytes were asked for each row, expected at most {_BLOCK_BYTES}")
        (count, width), digest = messages.shape, self._mac.digest
        head, length = b"\x01" + _framed(purpose.encode()), width.to_bytes(8, "big")
        parts = (
            np.broadcast_to(np.frombuffer(head, dtype=np.uint8), (count, len(head))),
            np.frombuffer(fresh, dtype=np.uint8).reshape(count, FRESH_BYTES),
            np.broadcast_to(np.frombuffer(length, dtype=np.uint8), (count, len(length))),
            messages,
        )
        framed = np.concatenate(parts, axis=1)
        data, step = framed.tobytes(), framed.shape[1]
        drawn = [digest(data[start : start + step]) for start in range(0, len(data), step)]
        return np.frombuffer(b"".join(drawn), dtype=np.uint8).reshape(count, _BLOCK_BYTES)[:, :size]


def _framed(part: bytes) -> bytes:
    return len(part).to_bytes(8, "big") + part
