"""Key providers: where the key that protects a context comes from.

A provider is two methods: make a new key together with what must be stored to get it back (the *wrapped key*), and get
it back from that. What is stored is not secret by itself; the provider's own secret (a passphrase, a key file, a key
service's permission) never leaves it. A provider for another key service is one small class with these two methods and
a name; docs/keys.md shows one. Providers written for the existing client, with `get_key`, `wrap_key` and
`provider_id`, are taken too.
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
    """Gives the 256-bit key that a context's secrets are encrypted under.

    The calls come from any thread, and may take as long as a key service takes. A provider that keeps secrets between
    them is best derived from `xtrace_sdk.x_vec.keys.secrecy.Secretive`, which is never shown and never pickled.
    """

    @property
    def kind(self) -> str:
        """The provider's name in a stored context (`key_provider`); a context opens with its own kind only."""
        ...

    def new_key(self) -> tuple[bytes, bytes]:
        """`(key, wrapped_key)`: 32 bytes of key, new each time, and the bytes to store with the context.

        The wrapped key is stored in the clear: it must not give the key away without the provider.
        Raises `KeyProviderFault` if the provider cannot give one.
        """
        ...

    def unwrap_key(self, wrapped_key: bytes) -> bytes:
        """The key that `new_key` gave with this wrapped key.

        Raises `InvalidContext` for a wrapped key of another form, `WrongKey` for one that is not this provider's, and
        `KeyProviderFault` if the provider cannot tell now. One that derives keys may give another key instead: the
        context's key check notices.
        """
        ...


AnyKeyProvider = KeyProvider | ExistingKeyProvider
"""What is taken as a key provider."""


def as_key_provider(given: Any) -> KeyProvider:
    """The key provider, adapted if it is of the existing client's protocol. Raises `InvalidArgument` for others."""
    if isinstance(given, KeyProvider):
        return given
    if isinstance(given, ExistingKeyProvider):
        adapted: KeyProvider = AdaptedKeyProvider(given)
        return adapted
    raise InvalidArgument(f"the key provider is a {type(given).__name__}, expected one like PassphraseKeyProvider")


def existing_clients_key(provider: KeyProvider, wrapped_key: bytes) -> bytes:
    """The key of a context that another client of this wire format saved; raises what `unwrap_key` raises.

    Those clients derive from passphrases in their own way (docs/formats.md, "Contexts of existing clients").
    """
    if isinstance(provider, PassphraseKeyProvider):
        return provider.existing_clients_key(wrapped_key)
    return provider.unwrap_key(wrapped_key)
