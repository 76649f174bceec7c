"""`ExecutionContext`, under the name that programs import; it is defined in `xtrace_sdk.x_vec.contexts`."""

from xtrace_sdk.x_vec.contexts.execution_context import (
    ContextStore,
    ExecutionContext,
    PublicPart,
    WeakKeyWarning,
    read_public_part,
)

__all__ = ["ContextStore", "ExecutionContext", "PublicPart", "WeakKeyWarning", "read_public_part"]
