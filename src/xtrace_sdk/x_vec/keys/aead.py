"""AES-256-GCM with a random IV for each message: `IV (16 bytes) ‖ tag (16) ‖ ciphertext`."""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from xtrace_sdk.x_vec.keys.hedging import Hedge

IV_BYTES = 16
TAG_BYTES = 16
KEY_BYTES = 32


def seal(key: bytes, plaintext: bytes, associated_data: bytes | None, hedge: Hedge) -> bytes:
    """Returns `IV ‖ tag ‖ ciphertext`, 32 bytes longer than the plaintext, with a fresh random IV from the hedge.

    An observer learns the plaintext's length.
    """
    iv = hedge.draw("iv", [key, associated_data or b"", plaintext], IV_BYTES)
    return _seal_with_iv(key, iv, plaintext, associated_data)


def _seal_with_iv(key: bytes, iv: bytes, plaintext: bytes, associated_data: bytes | None) -> bytes:
    sealed = AESGCM(key).encrypt(iv, plaintext, associated_data)
    return iv + sealed[-TAG_BYTES:] + sealed[:-TAG_BYTES]


def unseal(key: bytes, sealed: bytes, associated_data: bytes | None) -> bytes:
    """Decrypts what `seal` returned. Raises `cryptography.exceptions.InvalidTag` for anything else."""
    if len(sealed) < IV_BYTES + TAG_BYTES:
        raise InvalidTag
    iv, tag, ciphertext = (
        sealed[:IV_BYTES],
        sealed[IV_BYTES : IV_BYTES + TAG_BYTES],
        sealed[IV_BYTES + TAG_BYTES :],
    )
    return AESGCM(key).decrypt(iv, ciphertext + tag, associated_data)
