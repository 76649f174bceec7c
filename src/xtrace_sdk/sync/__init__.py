"""The SDK for scripts and notebooks: its asynchronous classes and functions as ordinary ones.

Same names, same parameters, same core: `await retriever.search(…)` is `retriever.search(…)` here, `async with` is
`with`, `async for` is `for`, and `aclose` is `close`. Usable from any thread, whether an event loop runs there or not.
Ctrl-C cancels a call cleanly. Callbacks run in a thread of the SDK and cannot make such calls themselves.

`X.of(…)` is the twin of an asynchronous object, `.asynchronous` leads back, and `run` waits for a coroutine that uses
such objects: what an adapter needs that has both forms.
"""

from xtrace_sdk.sync._background import run
from xtrace_sdk.sync._collection import Collection
from xtrace_sdk.sync._copying import copy_knowledge_base
from xtrace_sdk.sync._embedding import Embedding
from xtrace_sdk.sync._execution_context import ContextStore, ExecutionContext, NamedContextStore
from xtrace_sdk.sync._extraction import LanguageModel
from xtrace_sdk.sync._fetching import fetch_samples
from xtrace_sdk.sync._integration import XTraceIntegration
from xtrace_sdk.sync._llm import InferenceClient
from xtrace_sdk.sync._loader import DataLoader
from xtrace_sdk.sync._manifest import write_manifest
from xtrace_sdk.sync._memory import Memory
from xtrace_sdk.sync._retriever import Retriever
from xtrace_sdk.sync._rotation import rotate
from xtrace_sdk.sync._sealing import seal_chunks
from xtrace_sdk.sync._vectors import Embedder, FloatEmbedder
from xtrace_sdk.sync._verification import delete_bad, verify

__all__ = [
    "Collection",
    "ContextStore",
    "DataLoader",
    "Embedder",
    "Embedding",
    "ExecutionContext",
    "FloatEmbedder",
    "InferenceClient",
    "LanguageModel",
    "Memory",
    "NamedContextStore",
    "Retriever",
    "XTraceIntegration",
    "copy_knowledge_base",
    "delete_bad",
    "fetch_samples",
    "rotate",
    "run",
    "seal_chunks",
    "verify",
    "write_manifest",
]
