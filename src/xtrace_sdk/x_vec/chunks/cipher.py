"""Content encryption: AES-256-GCM, with a separate key for each content.

The stored form is the base64 of `IV (16 bytes) ‖ tag (16) ‖ ciphertext`. The additional authenticated data is a label
and the chunk's nonce, which binds the content to the chunk's vector. The key is derived from the content key and the
nonce (docs/formats.md, "Content").
"""

import base64
import binascii
from typing import ClassVar

from cryptography.exceptions import InvalidTag

from xtrace_sdk.errors import ContentTampered, InvalidArgument, UnknownContent
from xtrace_sdk.x_vec.keys.aead import KEY_BYTES, seal, unseal
from xtrace_sdk.x_vec.keys.hedging import Hedge
from xtrace_sdk.x_vec.keys.mac import Mac
from xtrace_sdk.x_vec.keys.secrecy import Secretive

_CONTENT_LABEL = b"xtrace/content/2"
_KEY_LABEL = b"xtrace/content-key/2"


class ContentCipher(Secretive):
    """Encrypts and decrypts the content of chunks under the content key of one context."""

    __slots__ = ("_hedge", "_key", "_mac")

    binds_nonces: ClassVar[bool] = True
    """Whether content is bound to the nonce of its chunk's vector, so that a chunk without a nonce is an error."""

    def __init__(self, key: bytes, hedge: Hedge) -> None:
        if len(key) != KEY_BYTES:
            raise InvalidArgument(f"the content key has {len(key)} bytes, expected {KEY_BYTES}")
        self._key = key
        self._mac = Mac(key)
        self._hedge = hedge

    def encrypt(self, content: str | bytes, nonce: bytes | None = None) -> str:
        """Encrypts a content to its stored form: base64 text, about 4/3 of the UTF-8 length plus 44 characters.

        `nonce` is that of the chunk's encrypted vector (`EncryptedIndex.nonce`); the content can only be decrypted with
        the same nonce. Every call draws a fresh IV, so equal contents have different ciphertexts.
        """
        try:
            plaintext = content.encode() if isinstance(content, str) else content
        except UnicodeEncodeError:  # its attributes contain the text
            raise InvalidArgument(
                "the content contains unpaired surrogates, expected text that can be encoded as UTF-8"
            ) from None
        key, associated_data = self._key_for(nonce), self._bound_to(nonce)
        return base64.b64encode(seal(key, plaintext, associated_data, self._hedge)).decode()

    def decrypt(self, stored: str | bytes, nonce: bytes | None = None) -> str:
        """Decrypts a content to text.

        Raises what `decrypt_bytes` raises, and `UnknownContent` if it is not UTF-8 text.
        """
        try:
            return self.decrypt_bytes(stored, nonce).decode()
        except UnicodeDecodeError:  # its attributes contain the content
            raise UnknownContent("the content is not UTF-8 text: use decrypt_bytes") from None

    def decrypt_bytes(self, stored: str | bytes, nonce: bytes | None = None) -> bytes:
        """Decrypts to bytes what `encrypt` returned for the same nonce.

        Raises `ContentTampered` if `stored` is not valid base64, is shorter than 32 bytes, was changed, was encrypted
        under another key, or belongs to another nonce; these cases cannot be distinguished.
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
        """Returns the key for the content with this nonce. It is used so rarely that no limit of AES-GCM matters."""
        return self._mac.digest(_KEY_LABEL + (nonce or b""))

    def _bound_to(self, nonce: bytes | None) -> bytes | None:
        """Returns the additional authenticated data."""
        return _associated_data(nonce)

    def secret(self) -> bytes:
        """Returns the content key, only for encryption under the key provider's key."""
        return self._key


def _associated_data(nonce: bytes | None) -> bytes:
    return _CONTENT_LABEL + (nonce or b"")
