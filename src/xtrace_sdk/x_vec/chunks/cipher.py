"""Content: AES-256-GCM, one random IV for each message.

What is stored is base64 of `IV (16 bytes) ‖ tag (16) ‖ ciphertext`. The additional authenticated data is a label and
the chunk's nonce, so that the content and the vector of one chunk belong together (docs/formats.md, "Content").
"""

import base64
import binascii
from typing import ClassVar

from cryptography.exceptions import InvalidTag

from xtrace_sdk.errors import ContentTampered, InvalidArgument
from xtrace_sdk.x_vec.keys.aead import KEY_BYTES, seal, unseal
from xtrace_sdk.x_vec.keys.secrecy import Secretive

_CONTENT_LABEL = b"xtrace/content/1"


class ContentCipher(Secretive):
    """Encrypts and decrypts the content of chunks under the content key of one context."""

    __slots__ = ("_key",)

    binds_nonces: ClassVar[bool] = True
    """Whether content belongs to the nonce of its chunk's vector, so that a chunk without a nonce is an error."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise InvalidArgument(f"the content key has {len(key)} bytes, expected {KEY_BYTES}")
        self._key = key

    def encrypt(self, content: str | bytes, nonce: bytes | None = None) -> str:
        """The content as stored: base64 text, about 4/3 of the content's UTF-8 length plus 44 characters.

        `nonce` is that of the chunk's encrypted vector (`EncryptedIndex.nonce`); content encrypted with it decrypts
        with no other. Every call draws a fresh IV: the same content never looks the same twice.
        """
        try:
            plaintext = content.encode() if isinstance(content, str) else content
        except UnicodeEncodeError:  # its attributes hold the text
            raise InvalidArgument("the content holds unpaired surrogates, expected text that UTF-8 can hold") from None
        return base64.b64encode(seal(self._key, plaintext, self._bound_to(nonce))).decode()

    def decrypt(self, stored: str | bytes, nonce: bytes | None = None) -> bytes:
        """The content, as bytes, of what `encrypt` gave for the same nonce.

        Raises `ContentTampered` if `stored` is no base64, is shorter than 32 bytes, was changed, was encrypted under
        another key or belongs to another nonce; which of these cannot be told.
        """
        try:
            sealed = base64.b64decode(stored, validate=True)
            return unseal(self._key, sealed, self._bound_to(nonce))
        except (InvalidTag, binascii.Error, ValueError):
            raise ContentTampered(
                "the content cannot be authenticated: it was changed, belongs to another vector, or was written "
                "under another context; fetch it again, and if that does not help do not trust the server's copy"
            ) from None

    def _bound_to(self, nonce: bytes | None) -> bytes | None:
        """The additional authenticated data."""
        return _associated_data(nonce)

    def secret(self) -> bytes:
        """The content key, for encryption under the key provider's key only."""
        return self._key


def _associated_data(nonce: bytes | None) -> bytes:
    return _CONTENT_LABEL + (nonce or b"")
