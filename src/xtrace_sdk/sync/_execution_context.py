"""Made by `scripts/sync-twins` from `xtrace_sdk.x_vec.contexts.execution_context`: change that, and run the script."""

from typing import Any, Protocol, Self, runtime_checkable

from xtrace_sdk.sync._background import in_threads, run
from xtrace_sdk.x_vec.contexts import execution_context as core
from xtrace_sdk.x_vec.keys.provider import KeyProvider
from xtrace_sdk.x_vec.keys.recovery import RecoveryKey


@runtime_checkable
class ContextStore(Protocol):
    """What a context needs of `XTraceIntegration` to be saved and restored."""

    def store_exec_context(self, exec_context_dict: dict[str, Any], context_id: str) -> Any: ...

    def get_serialized_exec_context(self, context_id: str) -> dict[str, Any]: ...


class ExecutionContext(core.ExecutionContext):
    """Keys for one body of encrypted data: create it, save it, restore it, and hand it to a loader and a retriever.

    Contexts are equal if their public identities are; the identity is safe to log, the object shows nothing else.
    """

    __slots__ = ()

    def save_to_remote(  # type: ignore[override]
        self, integration: ContextStore
    ) -> str:
        """Stores the context on the service and returns its id.

        The service gets the public parts, and the secrets encrypted: it can guess at a passphrase, and learns nothing
        else. Saving again replaces the encrypted secrets.
        """
        return run(super().save_to_remote(in_threads(integration, ContextStore)))

    @classmethod
    def load_from_remote(  # type: ignore[override]
        cls,
        passphrase: str | None = None,
        context_id: str | None = None,
        integration: ContextStore | None = None,
        key_provider: KeyProvider | None = None,
        *,
        recovery_key: RecoveryKey | str | None = None,
        insecure_allow_weak_encryption: bool = False,
    ) -> Self:
        """The context stored on the service under that id, opened as `load_from_disk` opens a file.

        Raises `NotFound`, `WrongKey`, and `InvalidContext` if what the service gives is not that
        context.
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
