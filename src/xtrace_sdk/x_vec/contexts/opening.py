"""Opens saved contexts, also those of other clients, with their key provider or recovery key."""

import base64
from typing import NamedTuple

import msgspec
from cryptography.exceptions import InvalidTag

from xtrace_sdk.errors import InvalidArgument, InvalidContext, WrongKey
from xtrace_sdk.x_vec.contexts.context_keys import ContextKeys
from xtrace_sdk.x_vec.contexts.saved_context import SavedContext, json_object
from xtrace_sdk.x_vec.keys.aead import unseal
from xtrace_sdk.x_vec.keys.provider import (
    AnyKeyProvider,
    KeyProvider,
    PassphraseKeyProvider,
    as_key_provider,
    existing_clients_key,
)
from xtrace_sdk.x_vec.keys.recovery import RecoveryKey
from xtrace_sdk.x_vec.keys.sealed_secret import Envelope, Slot

WayIn = KeyProvider | RecoveryKey


class Opened(NamedTuple):
    """An open context: its keys, their envelope (None in another client's form), and the saved form."""

    keys: ContextKeys
    envelope: Envelope | None
    saved: SavedContext


def way_in(
    passphrase: str | None, key_provider: AnyKeyProvider | None, recovery_key: RecoveryKey | str | None
) -> WayIn:
    """Returns the given one of the three; a key provider takes precedence over a passphrase.

    Raises `InvalidArgument` if none was given, for a recovery key together with another one, and for an invalid
    recovery key.
    """
    others = key_provider if key_provider is not None else passphrase
    if (others is None) == (recovery_key is None):
        raise InvalidArgument("expected exactly one of passphrase, key_provider and recovery_key")
    if recovery_key is not None:
        return RecoveryKey(recovery_key) if isinstance(recovery_key, str) else recovery_key
    return as_key_provider(key_provider) if key_provider is not None else PassphraseKeyProvider(passphrase or "")


def open_saved(saved: SavedContext, way: WayIn) -> Opened:
    """Opens the saved context. Raises `InvalidContext`, `WrongKey`, and what the key provider raises."""
    if saved.is_ours:
        saved.check_own_id()
    envelope = None
    if saved.is_ours or saved.is_sealed:
        slot = Slot.RECOVERY if isinstance(way, RecoveryKey) else Slot.PROVIDER
        envelope, secret = Envelope.open(slot, _key(saved, way), saved.sk, saved.associated_data)
        keys = ContextKeys.load(saved, json_object(secret, "secret"))
    else:
        keys = _open_existing(saved, way)
    if saved.id not in (None, keys.id):
        raise InvalidContext("the context's id does not belong to its keys: the file was changed")
    if saved.is_sealed:
        saved = msgspec.structs.replace(saved, id=keys.id)  # contexts from the service lack it
    return Opened(keys, envelope, saved)


def _key(saved: SavedContext, way: WayIn) -> bytes:
    if isinstance(way, RecoveryKey):
        return way.key()
    _check_kind(saved, way)
    return way.unwrap_key(saved.wrapped_key_bytes())


def _check_kind(saved: SavedContext, provider: KeyProvider) -> None:
    if saved.key_provider != provider.kind:
        raise InvalidContext(
            f"the context was saved with the key provider {saved.key_provider!r}, got {provider.kind!r}"
        )


def _open_existing(saved: SavedContext, way: WayIn) -> ContextKeys:
    """Returns the keys of another client's context, whose content key is the provider's key itself."""
    if isinstance(way, RecoveryKey):
        raise WrongKey(
            "the context was saved by other software and does not have a recovery key: open it with its passphrase"
        )
    _check_kind(saved, way)
    key = existing_clients_key(way, saved.wrapped_key_bytes())
    try:
        secret_key = unseal(key, base64.b64decode(saved.sk, validate=True), None).decode()
    except ValueError:  # not base64, or not UTF-8 inside
        raise InvalidContext("the context's sk is not an encrypted secret key: it was changed or cut off") from None
    except InvalidTag:
        raise WrongKey(
            "the passphrase or key is wrong, or the context was changed: files of other software do not distinguish "
            "the two"
        ) from None
    secret = {"sk": secret_key, "content_key": key.hex()}
    return ContextKeys.load(saved, secret, sealed_secret_key=saved.sk)
