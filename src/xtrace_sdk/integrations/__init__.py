"""The client of the service under the name that programs import, and adapters for frameworks."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xtrace_sdk.service.integration import XTraceIntegration

__all__ = ["XTraceIntegration"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from xtrace_sdk.service import integration

    return getattr(integration, name)
