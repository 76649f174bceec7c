"""Made by `scripts/sync-twins` from `xtrace_sdk.x_vec.contexts.execution_context`: change that, and run the script."""

import os
from typing import Any, Protocol, Self, runtime_checkable

from xtrace_sdk.sync._background import in_threads, run
from xtrace_sdk.x_vec.chunks.private_metadata import PrivateMetaData
from xtrace_sdk.x_vec.contexts import execution_context as core
from xtrace_sdk.x_vec.inference.model import EmbeddingModel, HasModel
from xtrace_sdk.x_vec.keys.provider import AnyKeyProvider
from xtrace_sdk.x_vec.keys.recovery import RecoveryKey


@runtime_checkable
class ContextStore(Protocol):
    """The part of `XTraceIntegration` that saves and restores contexts."""

    def store_exec_context(self, exec_context_dict: dict[str, Any], context_id: str) -> Any: ...

    def get_serialized_exec_context(self, context_id: str) -> dict[str, Any]: ...


@runtime_checkable
class NamedContextStore(Protocol):
    """The part of `XTraceIntegration` that finds contexts by name."""

    def store_exec_context(
        self, exec_context_dict: dict[str, Any], context_id: str, *, name: str | None = None
    ) -> Any: ...

    def get_serialized_exec_context(self, context_id: str) -> dict[str, Any]: ...

    def find_exec_context(self, name: str) -> str | None: ...


class ExecutionContext(core.ExecutionContext):
    """Keys for one set of encrypted data: create it, save it, restore it, and pass it to a loader and a retriever.

    Contexts are equal if their public identities are. The `repr` shows only the identity, which is safe to log.
    """

    __slots__ = ()

    @classmethod
    def create_or_load(  # type: ignore[override]
        cls,
        key_provider: AnyKeyProvider,
        homomorphic_client_type: str,
        embedding_length: int | None = None,
        key_len: int | None = None,
        path: str | os.PathLike[str] | None = None,
        *,
        name: str | None = None,
        integration: NamedContextStore | None = None,
        alpha_len: int | None = None,
        private_metadata: PrivateMetaData = False,
        embedding: EmbeddingModel | HasModel | None = None,
        insecure_allow_weak_parameters: bool = False,
    ) -> Self:
        """Loads the context in the file `path`, or under `name` on the service; creates and saves it if it is missing.

        If several processes or machines call this at the same time, one creates the context, and all get it. The other
        arguments are those of `create` and are used only if the context is missing. Pass `path`, or `name` and
        `integration`.

        Raises what `create`, and `load_from_disk` or `load_from_remote`, raise, and `InaccessibleFile` on a file system
        without hard links.
        """
        return run(
            super().create_or_load(
                key_provider,
                homomorphic_client_type,
                embedding_length,
                key_len,
                path,
                name=name,
                integration=in_threads(integration, NamedContextStore),
                alpha_len=alpha_len,
                private_metadata=private_metadata,
                embedding=embedding,
                insecure_allow_weak_parameters=insecure_allow_weak_parameters,
            )
        )

    def save_to_remote(  # type: ignore[override]
        self, integration: ContextStore
    ) -> str:
        """Stores the context on the service and returns its id.

        The service gets the public parts and the encrypted secrets: it can try passphrases, and learns nothing else.
        Saving again replaces the encrypted secrets.
        """
        return run(super().save_to_remote(in_threads(integration, ContextStore)))

    @classmethod
    def load_from_remote(  # type: ignore[override]
        cls,
        passphrase: str | None = None,
        context_id: str | None = None,
        integration: ContextStore | None = None,
        key_provider: AnyKeyProvider | None = None,
        *,
        recovery_key: RecoveryKey | str | None = None,
        insecure_allow_weak_encryption: bool = False,
    ) -> Self:
        """Opens the context with this id from the service, as `load_from_disk` opens a file.

        Raises `NotFound`, `WrongKey`, and `InvalidContext` if the service returns a different context.
        """
        return run(
            super().load_from_remote(
                passphrase,
                context_id,
                in_threads(integration, ContextStore),
                key_provider,
                recovery_key=recovery_key,
                insecure_allow_weak_encryption=insecure_allow_weak_encryption,
            )
        )
