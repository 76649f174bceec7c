"""Nonces, and the noise that follows from them (docs/formats.md, "Nonces").

The noise of a chunk's ciphertexts is derived from its nonce with keys of the context, so the owner knows the noise of
every product and can take it away without an exponentiation, and notices every row that is not the sum of a chunk of
that nonce with the query. The same nonce for two vectors would show their difference: nonces are made here, for every
encryption anew, and no public call accepts one for encryption.
"""

import hmac
import secrets
from collections.abc import Mapping

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from xtrace_core.arithmetic import Rows
from xtrace_sdk.x_vec.keys.secrecy import Secretive
from xtrace_sdk.x_vec.schemes.paillier.encoding import Bits

NONCE_BYTES = 14
KEY_BYTES = 32
_BLOCK_BYTES = 16


class NoiseKeys(Secretive):
    """The two keys of a context that nonces and noise come from: K for the noise, K′ for the nonces."""

    __slots__ = ("noise_key", "nonce_key")

    def __init__(self, noise_key: bytes, nonce_key: bytes) -> None:
        """Raises `ValueError` for keys that have not 32 bytes each."""
        if len(noise_key) != KEY_BYTES or len(nonce_key) != KEY_BYTES:
            raise ValueError(f"the noise keys have {len(noise_key)} and {len(nonce_key)} bytes, expected {KEY_BYTES}")
        self.noise_key = noise_key
        self.nonce_key = nonce_key

    @classmethod
    def generate(cls) -> "NoiseKeys":
        """Two fresh independent keys."""
        return cls(secrets.token_bytes(KEY_BYTES), secrets.token_bytes(KEY_BYTES))

    @classmethod
    def from_secrets(cls, secret: Mapping[str, str]) -> "NoiseKeys":
        """The keys from a context's secrets. Raises `KeyError` or `ValueError` if they are not there."""
        return cls(bytes.fromhex(secret["noise_key"]), bytes.fromhex(secret["nonce_key"]))

    def nonces(self, bits: Bits) -> Rows:
        """A fresh nonce for each vector: `(n, 14)`.

        HMAC-SHA-256 of fresh randomness and the vector, so that even a repeating random generator (a cloned virtual
        machine) gives two different vectors different nonces.
        """
        return self._nonces_from(bits, secrets.token_bytes(16 * len(bits)))

    def _nonces_from(self, bits: Bits, randomness: bytes) -> Rows:
        fresh = np.frombuffer(randomness, dtype=np.uint8).reshape(len(bits), 16)
        messages = np.concatenate([fresh, np.packbits(bits, axis=1)], axis=1)
        data, width, key, digest = messages.tobytes(), messages.shape[1], self.nonce_key, hmac.digest
        digests = [digest(key, data[i : i + width], "sha256")[:NONCE_BYTES] for i in range(0, len(data), width)]
        return np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(len(bits), NONCE_BYTES)

    def integers(self, nonces: Rows, ciphertexts: int, order_bits: int) -> list[tuple[Rows, Rows]]:
        """For each ciphertext of the vectors the pseudo-random integers for p and q, to be reduced by the orders.

        An element is a pair of `(n, 16·b)` little-endian rows with b = ⌈(order_bits + 128)/128⌉: 128 bits more than
        the order, so that the reduced value is uniform but for a bias of 2^-128. Integer 2t (p) and 2t+1 (q) are the
        AES-256 blocks `nonce ‖ j` for j from b·that on, read as one big-endian integer.
        """
        group = -(-(order_bits + 128) // 128)
        count = 2 * ciphertexts * group
        blocks = np.empty((len(nonces), count, _BLOCK_BYTES), dtype=np.uint8)
        blocks[:, :, :NONCE_BYTES] = nonces[:, None, :]
        blocks[:, :, NONCE_BYTES:] = np.arange(count, dtype=">u2").view(np.uint8).reshape(count, 2)
        # ECB is AES itself: the blocks are the inputs of a pseudo-random function, all different under one key.
        encryptor = Cipher(algorithms.AES256(self.noise_key), modes.ECB()).encryptor()  # noqa: S305
        stream = np.frombuffer(encryptor.update(blocks.tobytes()), dtype=np.uint8)
        integers = stream.reshape(len(nonces), ciphertexts, 2, group * _BLOCK_BYTES)[:, :, :, ::-1]
        return [
            (np.ascontiguousarray(integers[:, t, 0]), np.ascontiguousarray(integers[:, t, 1]))
            for t in range(ciphertexts)
        ]
