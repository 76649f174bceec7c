"""A context's secrets, encrypted under the key that a key provider gives (docs/formats.md, "Execution context").

What is stored as `sk` is base64 of `XTS1 ‖ key check (16) ‖ IV (16) ‖ tag (16) ‖ ciphertext`.
"""

import base64
import binascii
import hmac

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from xtrace_sdk.errors import InvalidContext, WrongKey
from xtrace_sdk.x_vec.keys.aead import IV_BYTES, TAG_BYTES, seal, unseal
from xtrace_sdk.x_vec.keys.hedging import Hedge

_MAGIC = b"XTS1"
_CHECK_BYTES = 16


def seal_secret(key: bytes, secret: bytes, associated_data: bytes) -> str:
    """The secret as stored: base64 text that only this key, with the same associated data, opens."""
    return base64.b64encode(
        _MAGIC + _key_check(key) + seal(_secret_key(key), secret, associated_data, _hedge(key))
    ).decode()


def open_secret(key: bytes, stored: str, associated_data: bytes) -> bytes:
    """The secret of what `seal_secret` gave.

    Raises `WrongKey` if it was sealed under another key, `InvalidContext` if it has another form or was changed, or
    if what it belongs to (the associated data) was.
    """
    data = _decoded(stored)
    if not data.startswith(_MAGIC) or len(data) < len(_MAGIC) + _CHECK_BYTES + IV_BYTES + TAG_BYTES:
        raise InvalidContext("the context's sk is not in the form that this software writes, or was cut off")
    check, sealed = data[len(_MAGIC) :][:_CHECK_BYTES], data[len(_MAGIC) + _CHECK_BYTES :]
    if not hmac.compare_digest(check, _key_check(key)):
        raise WrongKey("the passphrase or key is wrong for this context: use the one that it was created with")
    try:
        return unseal(_secret_key(key), sealed, associated_data)
    except InvalidTag:
        raise InvalidContext(
            "the key is right, but the context was changed since it was saved: restore it from another copy"
        ) from None


def is_sealed(stored: str) -> bool:
    """Whether this begins as what `seal_secret` gives; what other clients write does so once in 2^32 times."""
    return _decoded(stored).startswith(_MAGIC)


def _decoded(stored: str) -> bytes:
    try:
        return base64.b64decode(stored, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _hedge(key: bytes) -> Hedge:
    return Hedge.derived(key, b"xtrace/sealing-hedge/1")


def _secret_key(key: bytes) -> bytes:
    return _derive(key, b"xtrace/secret/1", 32)


def _key_check(key: bytes) -> bytes:
    return _derive(key, b"xtrace/key-check/1", _CHECK_BYTES)


def _derive(key: bytes, label: bytes, length: int) -> bytes:
    return HKDF(algorithm=SHA256(), length=length, salt=None, info=label).derive(key)
