"""Content as other clients of this wire format encrypt it: AES-256-GCM without additional authenticated data.

Such content is not bound to its vector, and cannot be distinguished from the secret key, which other clients encrypt
under the same key.
"""

import base64
import binascii
from typing import ClassVar

from xtrace_sdk.errors import ContentTampered
from xtrace_sdk.x_vec.chunks.cipher import ContentCipher
from xtrace_sdk.x_vec.compat.paillier import is_secret_key
from xtrace_sdk.x_vec.keys.hedging import Hedge


class ExistingContentCipher(ContentCipher):
    """Encrypts and decrypts content as the other clients do."""

    __slots__ = ("_sealed_secret_key",)

    binds_nonces: ClassVar[bool] = False

    def __init__(self, key: bytes, hedge: Hedge, sealed_secret_key: str | None) -> None:
        """`sealed_secret_key` is the context's stored `sk` if it is encrypted under the content key."""
        super().__init__(key, hedge)
        self._sealed_secret_key = None if sealed_secret_key is None else _decoded(sealed_secret_key)

    def decrypt_bytes(self, stored: str | bytes, nonce: bytes | None = None) -> bytes:
        """Decrypts a content that the other client or `encrypt` has encrypted.

        Raises `ContentTampered` as in native contexts, if there is a nonce, and if the content is a secret key:
        otherwise, a service could return the stored key as a text and make its reader publish it.
        """
        if self._sealed_secret_key is not None and _decoded(stored) == self._sealed_secret_key:
            raise ContentTampered("the content is the context's stored secret key: do not trust the server's copy")
        plaintext = super().decrypt_bytes(stored, nonce)
        if is_secret_key(plaintext):
            raise ContentTampered("the content is a secret key: do not trust the server's copy")
        return plaintext

    def _key_for(self, nonce: bytes | None) -> bytes:
        return self._key

    def _bound_to(self, nonce: bytes | None) -> None:
        if nonce:
            raise ValueError("content of this context does not have a nonce")


def _decoded(stored: str | bytes) -> bytes | None:
    try:
        return base64.b64decode(stored, validate=True)
    except (binascii.Error, ValueError):
        return None
