"""Key providers: where the key that protects a context comes from.

A provider has two methods: one creates a key together with the bytes to store (the *wrapped key*), the other restores
the key from these bytes. The wrapped key is not secret by itself; the provider's own secret (a passphrase, a key file,
a permission at a key service) never leaves it. A provider for another key service is a small class with these two
methods and a name; docs/keys.md shows one. Providers written for the existing client, with `get_key`, `wrap_key` and
`provider_id`, are accepted too.
"""

from typing import Any, Protocol, runtime_checkable

from xtrace_sdk.errors import InvalidArgument
from xtrace_sdk.x_vec.keys.aws_kms import AWSKMSKeyProvider
from xtrace_sdk.x_vec.keys.existing_protocol import AdaptedKeyProvider, ExistingKeyProvider
from xtrace_sdk.x_vec.keys.key_file import KeyFileProvider
from xtrace_sdk.x_vec.keys.passphrase import PassphraseKeyProvider

__all__ = [
    "AWSKMSKeyProvider",
    "AnyKeyProvider",
    "KeyFileProvider",
    "KeyProvider",
    "PassphraseKeyProvider",
    "as_key_provider",
    "existing_clients_key",
]


@runtime_checkable
class KeyProvider(Protocol):
    """Provides the 256-bit key under which a context's secrets are encrypted.

    Its methods are called from any thread, and may block. A provider that keeps secrets between calls should derive
    from `xtrace_sdk.x_vec.keys.secrecy.Secretive`, so that it is never shown and never pickled.
    """

    @property
    def kind(self) -> str:
        """The provider's name in a stored context (`key_provider`); a context opens only with the same kind."""
        ...

    def new_key(self) -> tuple[bytes, bytes]:
        """Returns `(key, wrapped_key)`: a new 32-byte key, and the bytes to store with the context.

        The wrapped key is stored in plaintext: it must not reveal the key without the provider. Raises
        `KeyProviderFault` if the provider cannot create one.
        """
        ...

    def unwrap_key(self, wrapped_key: bytes) -> bytes:
        """Returns the key that `new_key` returned with this wrapped key.

        Raises `InvalidContext` for a wrapped key in another format, `WrongKey` for one that is not this provider's,
        and `KeyProviderFault` if the provider is unavailable. A provider that derives keys may return a wrong key
        instead: the context's key check detects it.
        """
        ...


AnyKeyProvider = KeyProvider | ExistingKeyProvider
"""The types that are accepted as key providers."""


def as_key_provider(given: Any) -> KeyProvider:
    """Returns the key provider, adapted if it uses the existing client's protocol. Raises `InvalidArgument`."""
    if isinstance(given, KeyProvider):
        return given
    if isinstance(given, ExistingKeyProvider):
        adapted: KeyProvider = AdaptedKeyProvider(given)
        return adapted
    raise InvalidArgument(f"the key provider is a {type(given).__name__}, expected one like PassphraseKeyProvider")


def existing_clients_key(provider: KeyProvider, wrapped_key: bytes) -> bytes:
    """Returns the key of another client's saved context; raises what `unwrap_key` raises.

    Those clients derive from passphrases in their own way (docs/formats.md, "Contexts of existing clients").
    """
    if isinstance(provider, PassphraseKeyProvider):
        return provider.existing_clients_key(wrapped_key)
    return provider.unwrap_key(wrapped_key)
