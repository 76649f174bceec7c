"""AES-256-GCM with a random IV for each message: `IV (16 bytes) ‖ tag (16) ‖ ciphertext`."""

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

IV_BYTES = 16
TAG_BYTES = 16
KEY_BYTES = 32


def seal(key: bytes, plaintext: bytes, associated_data: bytes | None) -> bytes:
    """`IV ‖ tag ‖ ciphertext` of the plaintext, 32 bytes longer than it, under a fresh random IV.

    An observer learns the plaintext's length. A key seals at most 2^32 messages (NIST SP 800-38D, section 8.3).
    """
    return _seal_with_iv(key, secrets.token_bytes(IV_BYTES), plaintext, associated_data)


def _seal_with_iv(key: bytes, iv: bytes, plaintext: bytes, associated_data: bytes | None) -> bytes:
    sealed = AESGCM(key).encrypt(iv, plaintext, associated_data)
    return iv + sealed[-TAG_BYTES:] + sealed[:-TAG_BYTES]


def unseal(key: bytes, sealed: bytes, associated_data: bytes | None) -> bytes:
    """The plaintext of what `seal` gave. Raises `cryptography.exceptions.InvalidTag` for anything else."""
    if len(sealed) < IV_BYTES + TAG_BYTES:
        raise InvalidTag
    iv, tag, ciphertext = (
        sealed[:IV_BYTES],
        sealed[IV_BYTES : IV_BYTES + TAG_BYTES],
        sealed[IV_BYTES + TAG_BYTES :],
    )
    return AESGCM(key).decrypt(iv, ciphertext + tag, associated_data)
