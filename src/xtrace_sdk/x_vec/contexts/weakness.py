"""Contexts with little or no protection: opening one emits a warning, and it does not encrypt vectors."""

import warnings
from typing import Any, NoReturn, cast

from xtrace_sdk.errors import WeakParameters
from xtrace_sdk.x_vec.contexts.context_keys import ContextKeys
from xtrace_sdk.x_vec.contexts.saved_context import SavedContext
from xtrace_sdk.x_vec.keys.passphrase import PassphraseKeyProvider
from xtrace_sdk.x_vec.keys.secrecy import Secretive
from xtrace_sdk.x_vec.schemes.interface import HomomorphicClient


class WeakKeyWarning(UserWarning):
    """The opened context's public key reveals its secret key, or its passphrase is cheap to guess."""


def warn_of_weakness(keys: ContextKeys, saved: SavedContext) -> None:
    """Warns (`WeakKeyWarning`) of each weakness of an open context and of its predecessor's key."""
    for one in (keys, keys.predecessor):
        if one is not None and one.homomorphic.weakness:
            _warn(
                f"the key of the context {one.id[:12]}… is weak: {one.homomorphic.weakness}, so anyone who has its "
                "public part can read the vectors and queries. Rotate it to a new context: xtrace context rotate"
            )
    if saved.key_provider == PassphraseKeyProvider.kind and saved.is_sealed:
        cost = PassphraseKeyProvider.weakness(saved.wrapped_key_bytes())
        if cost:
            _warn(
                f"the passphrase of the context {keys.id[:12]}… can be guessed cheaply: {cost}. "
                "Rewrap it: xtrace context rewrap"
            )


def guarded_client(client: HomomorphicClient) -> HomomorphicClient:
    """Returns the client; a weak one without encryption of vectors."""
    return cast("HomomorphicClient", _WeakClient(client)) if client.weakness else client


class _WeakClient(Secretive):
    __slots__ = ("_client",)

    def __init__(self, client: HomomorphicClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def encrypt_vec_one(self, vector: Any) -> NoReturn:
        self._refuse()

    def encrypt_vec_batch(self, vectors: Any) -> NoReturn:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise WeakParameters(
            f"this context's key is weak ({self._client.weakness}), so it does not encrypt new data: rotate the "
            "context (xtrace context rotate), or load it with insecure_allow_weak_encryption=True"
        )


def _warn(text: str) -> None:
    warnings.warn(text, WeakKeyWarning, stacklevel=3)
