"""A context's secrets, encrypted under the context's own random key (docs/formats.md, "Execution context").

That key is stored in *slots*: encrypted under the key provider's key and, optionally, under a recovery key. So each can
be changed independently, and both open the same secret. The stored `sk` is the base64 of `XTS1 ‖ number of slots ‖
slots (80 each) ‖ IV (16) ‖ tag (16) ‖ ciphertext`.
"""

import base64
import binascii
import hmac
import secrets
from enum import IntEnum
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from xtrace_sdk.errors import InvalidContext, WrongKey
from xtrace_sdk.x_vec.keys.aead import IV_BYTES, KEY_BYTES, TAG_BYTES, seal, unseal
from xtrace_sdk.x_vec.keys.hedging import Hedge
from xtrace_sdk.x_vec.keys.secrecy import Secretive

_MAGIC: Final = b"XTS1"
_CHECK_BYTES: Final = 16
_SLOT_BYTES: Final = _CHECK_BYTES + IV_BYTES + TAG_BYTES + KEY_BYTES


class Slot(IntEnum):
    """The keys that open a context, in the order of their slots."""

    PROVIDER = 0
    RECOVERY = 1


_WRONG: Final = {
    Slot.PROVIDER: "the passphrase or key is wrong for this context: use the one that it was created with",
    Slot.RECOVERY: "the recovery key is not this context's, or was replaced: use the words that were printed last",
}


class Envelope(Secretive):
    """A context's own key and its slots. Envelopes are immutable: `with_slot` returns a new one."""

    __slots__ = ("_associated_data", "_key", "_slots")

    def __init__(self, key: bytes, slots: tuple[bytes, ...], associated_data: bytes) -> None:
        """Use `new` or `open` instead."""
        self._key = key
        self._slots = slots
        self._associated_data = associated_data

    @classmethod
    def new(cls, provider_key: bytes, associated_data: bytes) -> Self:
        """Creates an envelope with a new key in the provider's slot; the secret is bound to `associated_data`."""
        return cls(secrets.token_bytes(KEY_BYTES), (), associated_data).with_slot(Slot.PROVIDER, provider_key)

    @classmethod
    def open(cls, slot: Slot, slot_key: bytes, stored: str, associated_data: bytes) -> tuple[Self, bytes]:
        """Opens what `seal` returned with the key of one slot; returns the envelope and the secret.

        Raises `WrongKey` if the slot is for a different key or is empty, and `InvalidContext` if the stored form is not
        valid or was changed (also in the other slot), or if the associated data was.
        """
        slots, sealed = _parts(stored)
        if slot >= len(slots):
            raise WrongKey("the context does not have a recovery key: open it with its passphrase or key")
        check, sealed_key = slots[slot][:_CHECK_BYTES], slots[slot][_CHECK_BYTES:]
        if not hmac.compare_digest(check, _key_check(slot_key)):
            raise WrongKey(_WRONG[slot])
        try:
            key = unseal(_slot_key(slot_key), sealed_key, _slot_data(slot, associated_data))
            return cls(key, slots, associated_data), unseal(key, sealed, associated_data + _header(slots))
        except InvalidTag:
            raise InvalidContext(
                "the key is correct, but the context was changed since it was saved: restore it from another copy"
            ) from None

    @property
    def has_recovery_key(self) -> bool:
        """Whether the recovery slot is filled."""
        return len(self._slots) > Slot.RECOVERY

    def with_slot(self, slot: Slot, slot_key: bytes) -> Self:
        """Returns the envelope with this key in a slot, in which it replaces the previous one."""
        sealed = seal(_slot_key(slot_key), self._key, _slot_data(slot, self._associated_data), _hedge(slot_key))
        filled = _key_check(slot_key) + sealed
        return type(self)(self._key, (*self._slots[:slot], filled, *self._slots[slot + 1 :]), self._associated_data)

    def without_recovery_key(self) -> Self:
        """Returns the envelope without a recovery slot."""
        return type(self)(self._key, self._slots[: Slot.RECOVERY], self._associated_data)

    def seal(self, secret: bytes) -> str:
        """Encrypts the secret to its stored form: base64 text that the slots' keys open, with the same associated
        data."""
        header = _header(self._slots)
        return base64.b64encode(
            header + seal(self._key, secret, self._associated_data + header, _hedge(self._key))
        ).decode()


def is_sealed(stored: str) -> bool:
    """Whether this begins like the output of `seal`; other clients' output does so once in 2^32 times."""
    return _decoded(stored).startswith(_MAGIC)


def has_recovery_key(stored: str) -> bool:
    """Whether the stored form says that there is a recovery key; only opening proves it."""
    return is_sealed(stored) and len(_parts(stored)[0]) > Slot.RECOVERY


def _parts(stored: str) -> tuple[tuple[bytes, ...], bytes]:
    data = _decoded(stored)
    if not data.startswith(_MAGIC) or len(data) == len(_MAGIC):
        raise InvalidContext("the context's sk has an unknown format, or was cut off")
    count, rest = data[len(_MAGIC)], data[len(_MAGIC) + 1 :]
    if not 1 <= count <= len(Slot):
        raise InvalidContext(f"the context's sk has {count} slots, expected 1 or {len(Slot)}: update the software")
    if len(rest) < count * _SLOT_BYTES + IV_BYTES + TAG_BYTES:
        raise InvalidContext("the context's sk was cut off: restore it from another copy")
    return tuple(rest[i * _SLOT_BYTES : (i + 1) * _SLOT_BYTES] for i in range(count)), rest[count * _SLOT_BYTES :]


def _decoded(stored: str) -> bytes:
    try:
        return base64.b64decode(stored, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _header(slots: tuple[bytes, ...]) -> bytes:
    return _MAGIC + bytes([len(slots)]) + b"".join(slots)


def _slot_data(slot: Slot, associated_data: bytes) -> bytes:
    return b"xtrace/slot/1" + bytes([slot]) + associated_data


def _hedge(key: bytes) -> Hedge:
    return Hedge.derived(key, b"xtrace/sealing-hedge/1")


def _slot_key(key: bytes) -> bytes:
    return _derive(key, b"xtrace/slot/1", KEY_BYTES)


def _key_check(key: bytes) -> bytes:
    return _derive(key, b"xtrace/key-check/1", _CHECK_BYTES)


def _derive(key: bytes, label: bytes, length: int) -> bytes:
    return HKDF(algorithm=SHA256(), length=length, salt=None, info=label).derive(key)
