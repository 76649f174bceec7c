"""Key providers written for the existing client, with `get_key`, `wrap_key` and `provider_id`.

Such a provider has a single key, and is accepted as a key provider everywhere. On this package's providers, those names
raise errors that say what to call instead.
"""

import inspect
from collections.abc import Callable
from typing import Any, ClassVar, NoReturn, Protocol, runtime_checkable

from xtrace_sdk.errors import InvalidArgument, KeyProviderFault, WrongKey
from xtrace_sdk.x_vec.keys.aead import KEY_BYTES
from xtrace_sdk.x_vec.keys.secrecy import Secretive


@runtime_checkable
class ExistingKeyProvider(Protocol):
    """A key provider of the existing client's protocol. `provider_id` may be a text, or a method that returns one."""

    provider_id: Any

    def get_key(self) -> bytes:
        """The key, 32 bytes."""
        ...

    def wrap_key(self) -> bytes:
        """Returns the bytes to store with the context, from which `from_wrapped` restores the provider."""
        ...


class AdaptedKeyProvider(Secretive):
    """Adapts a provider of the existing client's protocol to `KeyProvider`.

    All its contexts get the same key, because it has only one. A context's secrets are encrypted under a key derived
    from it with fresh randomness.
    """

    __slots__ = ("_provider", "kind")

    def __init__(self, provider: ExistingKeyProvider) -> None:
        self._provider = provider
        given = provider.provider_id() if callable(provider.provider_id) else provider.provider_id
        if not isinstance(given, str) or not given:
            raise InvalidArgument(
                f"provider_id of {type(provider).__name__} is not a string: set it to the provider's name"
            )
        self.kind: str = given

    def new_key(self) -> tuple[bytes, bytes]:
        """Returns the provider's key and its stored form. Raises `KeyProviderFault` if either is not valid."""
        return _key(self._provider), self._wrapped(self._provider)

    def unwrap_key(self, wrapped_key: bytes) -> bytes:
        """Returns the provider's key if it matches the stored one, else the key that its class restores.

        Raises `WrongKey` if there is none.
        """
        if self._wrapped(self._provider) == wrapped_key:
            return _key(self._provider)
        make: Callable[[bytes], ExistingKeyProvider] | None = getattr(self._provider, "from_wrapped", None)
        if make is None or _required(make) != 1:
            raise WrongKey(
                f"the {type(self._provider).__name__} has a different key than the one the context was saved with: "
                "create it from the context's wrapped_key"
            )
        return _key(make(wrapped_key))

    def _wrapped(self, provider: ExistingKeyProvider) -> bytes:
        # Some take the key to wrap as an argument.
        wrap: Callable[..., Any] = provider.wrap_key
        return _bytes(wrap(*((_key(provider),) if _required(wrap) else ())), f"{type(provider).__name__}.wrap_key()")


class ExistingNames:
    """Adds the existing client's names to this package's providers, with errors that say what to call instead."""

    __slots__ = ()

    kind: ClassVar[str]

    @property
    def provider_id(self) -> str:
        """The same as `kind`."""
        return self.kind

    def get_key(self) -> NoReturn:
        """Raises `InvalidArgument`: a key belongs to one context."""
        raise InvalidArgument(_SAY_NEW_KEY)

    def wrap_key(self) -> NoReturn:
        """Raises `InvalidArgument`: the wrapped key comes with the key."""
        raise InvalidArgument(_SAY_NEW_KEY)


_SAY_NEW_KEY = (
    "a key provider does not hold a key: new_key() returns a new one with its wrapped key, and "
    "unwrap_key(wrapped_key) returns that of a saved context"
)


def _key(provider: ExistingKeyProvider) -> bytes:
    key = _bytes(provider.get_key(), f"{type(provider).__name__}.get_key()")
    if len(key) != KEY_BYTES:
        raise KeyProviderFault(f"{type(provider).__name__}.get_key() returned {len(key)} bytes, expected {KEY_BYTES}")
    return key


def _bytes(value: Any, call: str) -> bytes:
    if not isinstance(value, bytes | bytearray):
        raise KeyProviderFault(f"{call} returned a {type(value).__name__}, expected bytes")
    return bytes(value)


def _required(call: Callable[..., Any]) -> int:
    """Returns the number of required arguments of a call."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(call).parameters.values()
    return sum(one.default is inspect.Parameter.empty and one.kind in kinds for one in parameters)
