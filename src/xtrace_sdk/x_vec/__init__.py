"""Encrypted vectors: the same names as in `xtrace_sdk`, where programs for other clients import them."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
    from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
    from xtrace_sdk.x_vec.inference.embedding import Embedding
    from xtrace_sdk.x_vec.inference.llm import InferenceClient
    from xtrace_sdk.x_vec.keys.provider import AWSKMSKeyProvider, KeyProvider, PassphraseKeyProvider
    from xtrace_sdk.x_vec.retrievers.retriever import Retriever

__all__ = [
    "AWSKMSKeyProvider",
    "DataLoader",
    "Embedding",
    "ExecutionContext",
    "InferenceClient",
    "KeyProvider",
    "PassphraseKeyProvider",
    "Retriever",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import xtrace_sdk

    return getattr(xtrace_sdk, name)
