"""Nonces, the noise derived from them, and the vectors that they authenticate (docs/formats.md, "Nonces").

A nonce is `r ‖ t`: r is drawn fresh for every encryption, and t is a pseudo-random function of r and the vector. The
noise of the chunk's ciphertexts is derived from t, so the owner knows the noise of every product and can remove it
without an exponentiation. And t authenticates the vector: the reader of a row recomputes it from r and the decrypted
bits, so a row that is not exactly the product of a stored vector and the query is an error, whatever the server knows.
A nonce that is used for two vectors would reveal their difference, so nonces are created only here, for every
encryption, and no public call accepts one for encryption.
"""

import secrets
from collections.abc import Mapping

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from xtrace_core.arithmetic import Rows
from xtrace_sdk.x_vec.keys.cmac import Cmac
from xtrace_sdk.x_vec.keys.hedging import Hedge
from xtrace_sdk.x_vec.keys.secrecy import Secretive

RANDOM_BYTES = 16
TAG_BYTES = 14
NONCE_BYTES = RANDOM_BYTES + TAG_BYTES
KEY_BYTES = 32
_BLOCK_BYTES = 16


class NoiseKeys(Secretive):
    """The keys of a context for nonces and noise: K for the noise, K′ for the nonces, and the hedge."""

    __slots__ = ("_cmac", "hedge", "noise_key", "nonce_key")

    def __init__(self, noise_key: bytes, nonce_key: bytes, hedge: Hedge) -> None:
        """Raises `ValueError` unless both keys have 32 bytes."""
        if len(noise_key) != KEY_BYTES or len(nonce_key) != KEY_BYTES:
            raise ValueError(f"the noise keys have {len(noise_key)} and {len(nonce_key)} bytes, expected {KEY_BYTES}")
        self.noise_key = noise_key
        self.nonce_key = nonce_key
        self.hedge = hedge
        self._cmac = Cmac(nonce_key)

    @classmethod
    def generate(cls) -> "NoiseKeys":
        """Creates fresh, independent keys."""
        return cls(secrets.token_bytes(KEY_BYTES), secrets.token_bytes(KEY_BYTES), Hedge.generate())

    @classmethod
    def from_secrets(cls, secret: Mapping[str, str]) -> "NoiseKeys":
        """Loads the keys from a context's secrets. Raises `KeyError` or `ValueError` if they are missing or not
        valid."""
        noise_key, nonce_key, hedging_key = (
            bytes.fromhex(secret[name]) for name in ("noise_key", "nonce_key", "hedging_key")
        )
        return cls(noise_key, nonce_key, Hedge(hedging_key))

    def secrets(self) -> dict[str, str]:
        """Returns the keys in hexadecimal, by their names in a context's secret."""
        return {
            "noise_key": self.noise_key.hex(),
            "nonce_key": self.nonce_key.hex(),
            "hedging_key": self.hedge.secret().hex(),
        }

    def nonces(self, packed: Rows) -> Rows:
        """Returns a fresh nonce for each vector, `(n, 30)`; `packed` are vectors from `VectorEncoding.pack`."""
        return self._nonces_from(self.hedge.draw_rows("nonce", packed, RANDOM_BYTES), packed)

    def _nonces_from(self, randomness: Rows, packed: Rows) -> Rows:
        return np.concatenate([randomness, self._tags(randomness, packed)], axis=1)

    def authenticated(self, nonces: Rows, packed: Rows) -> NDArray[np.bool_]:
        """Returns for each row whether its nonce `(n, 30)` was created for this vector."""
        tags = self._tags(nonces[:, :RANDOM_BYTES], packed)
        return np.asarray((tags == nonces[:, RANDOM_BYTES:]).all(axis=1))

    def _tags(self, randomness: Rows, packed: Rows) -> Rows:
        return self._cmac.codes(np.concatenate([randomness, packed], axis=1))[:, :TAG_BYTES]

    def integers(self, nonces: Rows, ciphertexts: int, order_bits: int) -> list[tuple[Rows, Rows]]:
        """Returns the pseudo-random integers for p and q for each ciphertext of the vectors, to be reduced by the
        orders.

        An element is a pair of `(n, 16·b)` little-endian rows with b = ⌈(order_bits + 128)/128⌉: 128 bits more than the
        order, so that the reduced value is uniform except for a bias of 2^-128. Integers number 2t (p) and 2t+1 (q) are
        b AES-256 blocks `t ‖ j`, with j from b times the integer's number on, read as one big-endian integer.
        """
        group = -(-(order_bits + 128) // 128)
        count = 2 * ciphertexts * group
        blocks = np.empty((len(nonces), count, _BLOCK_BYTES), dtype=np.uint8)
        blocks[:, :, :TAG_BYTES] = nonces[:, None, RANDOM_BYTES:]
        blocks[:, :, TAG_BYTES:] = np.arange(count, dtype=">u2").view(np.uint8).reshape(count, 2)
        # ECB is AES itself: the blocks are the inputs of a pseudo-random function, all different under one key.
        encryptor = Cipher(algorithms.AES256(self.noise_key), modes.ECB()).encryptor()  # noqa: S305
        stream = np.frombuffer(encryptor.update(blocks.tobytes()), dtype=np.uint8)
        integers = stream.reshape(len(nonces), ciphertexts, 2, group * _BLOCK_BYTES)[:, :, :, ::-1]
        return [
            (np.ascontiguousarray(integers[:, t, 0]), np.ascontiguousarray(integers[:, t, 1]))
            for t in range(ciphertexts)
        ]
