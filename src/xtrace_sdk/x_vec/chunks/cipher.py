"""Content: AES-256-GCM, under a key of its own for each content.

What is stored is base64 of `IV (16 bytes) ‖ tag (16) ‖ ciphertext`. The additional authenticated data is a label and
the chunk's nonce, so that the content and the vector of one chunk belong together; the key follows from the content key
and the nonce (docs/formats.md, "Content").
"""

import base64
import binascii
import hmac
from typing import ClassVar

from cryptography.exceptions import InvalidTag

from xtrace_sdk.errors import ContentTampered, InvalidArgument, UnknownContent
from xtrace_sdk.x_vec.keys.aead import KEY_BYTES, seal, unseal
from xtrace_sdk.x_vec.keys.hedging import Hedge
from xtrace_sdk.x_vec.keys.secrecy import Secretive

_CONTENT_LABEL = b"xtrace/content/2"
_KEY_LABEL = b"xtrace/content-key/2"


class ContentCipher(Secretive):
    """Encrypts and decrypts the content of chunks under the content key of one context."""

    __slots__ = ("_hedge", "_key")

    binds_nonces: ClassVar[bool] = True
    """Whether content belongs to the nonce of its chunk's vector, so that a chunk without a nonce is an error."""

    def __init__(self, key: bytes, hedge: Hedge) -> None:
        if len(key) != KEY_BYTES:
            raise InvalidArgument(f"the content key has {len(key)} bytes, expected {KEY_BYTES}")
        self._key = key
        self._hedge = hedge

    def encrypt(self, content: str | bytes, nonce: bytes | None = None) -> str:
        """The content as stored: base64 text, about 4/3 of the content's UTF-8 length plus 44 characters.

        `nonce` is that of the chunk's encrypted vector (`EncryptedIndex.nonce`); content encrypted with it decrypts
        with no other. Every call draws a fresh IV: the same content never looks the same twice.
        """
        try:
            plaintext = content.encode() if isinstance(content, str) else content
        except UnicodeEncodeError:  # its attributes hold the text
            raise InvalidArgument(
                "the content contains unpaired surrogates, expected text that can be encoded as UTF-8"
            ) from None
        key, associated_data = self._key_for(nonce), self._bound_to(nonce)
        return base64.b64encode(seal(key, plaintext, associated_data, self._hedge)).decode()

    def decrypt(self, stored: str | bytes, nonce: bytes | None = None) -> str:
        """The content as text.

        Raises what `decrypt_bytes` raises, and `UnknownContent` if it is not text in UTF-8.
        """
        try:
            return self.decrypt_bytes(stored, nonce).decode()
        except UnicodeDecodeError:  # its attributes hold the content
            raise UnknownContent("the content is not UTF-8 text: use decrypt_bytes") from None

    def decrypt_bytes(self, stored: str | bytes, nonce: bytes | None = None) -> bytes:
        """The content, as bytes, of what `encrypt` gave for the same nonce.

        Raises `ContentTampered` if `stored` is not valid base64, is shorter than 32 bytes, was changed, was encrypted
        under another key or belongs to another nonce; which of these cannot be told.
        """
        try:
            sealed = base64.b64decode(stored, validate=True)
            return unseal(self._key_for(nonce), sealed, self._bound_to(nonce))
        except (InvalidTag, binascii.Error, ValueError):
            raise ContentTampered(
                "the content cannot be authenticated: it was changed, belongs to another vector, or was written "
                "under another context; fetch it again; if that does not help, do not trust the server's copy"
            ) from None

    def _key_for(self, nonce: bytes | None) -> bytes:
        """The key of the content with that nonce: so few uses that no limit of AES-GCM needs counting."""
        return _content_key(self._key, nonce)

    def _bound_to(self, nonce: bytes | None) -> bytes | None:
        """The additional authenticated data."""
        return _associated_data(nonce)

    def secret(self) -> bytes:
        """The content key, for encryption under the key provider's key only."""
        return self._key


def _content_key(key: bytes, nonce: bytes | None) -> bytes:
    return hmac.digest(key, _KEY_LABEL + (nonce or b""), "sha256")


def _associated_data(nonce: bytes | None) -> bytes:
    return _CONTENT_LABEL + (nonce or b"")
