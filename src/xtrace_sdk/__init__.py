"""The client of XTrace, an end-to-end encrypted vector database.

Most programs need four classes. An `ExecutionContext` contains the keys for one set of data; it is created once,
saved, and opened again with a passphrase or another *key provider*. `XTraceIntegration` is the connection to a server.
An `Embedding` is a model that turns texts into vectors. A `Collection` stores and searches records, which are texts
with any metadata under ids that you choose:

    embed = Embedding("wordllama", "l2_supercat", 256, bits=512)
    context = ExecutionContext.create(
        PassphraseKeyProvider("…"), "paillier_lookup", embedding=embed, path="keys/context.json"
    )
    async with XTraceIntegration(org_id="…", api_key="…", api_url="http://127.0.0.1:8000") as xtrace:
        letters = await Collection.open(xtrace, context, kb_id)
        await letters.upsert([Record("invoice", "The March invoice is still unpaid.", {"topic": "finance"})])
        hits = await letters.search("Which bills are open?", k=3, where={"topic": "finance"})

A collection is built on `DataLoader`, which encrypts and stores chunks, and `Retriever`, which searches them. An
`InferenceClient` asks a language model about the results.

**Where the keys are.** All secrets are in the execution context, on the client: the keys of vectors, the content key,
and the keys for names and metadata. The context is saved to a file or to the service, encrypted under the key
provider's key. The service never has a key that decrypts anything. You need both the context and its passphrase: if
you lose either, the data is lost.

`rotate` moves data to new keys, `copy_knowledge_base` copies it to another server, `seal_chunks` prepares many chunks
for searches, `verify` reads everything and lists damaged chunks, and `write_manifest` records what is stored, in case
keys are stolen. Every exception is an `XTraceError`; `xtrace_sdk.errors` shows the tree. `xtrace_sdk.sync` has the same
names for scripts and notebooks, without `async` and `await`. `xtrace_sdk.x_mem` is a memory for agents, on top of a
collection. Names that are not in `__all__` here, in `xtrace_sdk.sync`, `xtrace_sdk.x_mem` or `xtrace_sdk.errors` are
private and may change.
"""

import importlib
from typing import TYPE_CHECKING, Any, Final

from xtrace_sdk.distributions import DISTRIBUTION, warn_of_other_owners

if TYPE_CHECKING:
    from xtrace_sdk.collection.collection import Collection
    from xtrace_sdk.collection.filterable import Range
    from xtrace_sdk.collection.record import Hit, Record, Written
    from xtrace_sdk.errors import XTraceError
    from xtrace_sdk.service.integration import MetaDataPage, Retries, XTraceIntegration
    from xtrace_sdk.x_vec.contexts.execution_context import (
        ExecutionContext,
        PublicPart,
        WeakKeyWarning,
        read_public_part,
    )
    from xtrace_sdk.x_vec.data_loaders.loader import DataLoader, LoadSummary
    from xtrace_sdk.x_vec.inference.embedding import Embedding
    from xtrace_sdk.x_vec.inference.llm import InferenceClient, PlaintextDisclosure
    from xtrace_sdk.x_vec.keys.provider import AWSKMSKeyProvider, KeyFileProvider, KeyProvider, PassphraseKeyProvider
    from xtrace_sdk.x_vec.keys.recovery import RecoveryKey
    from xtrace_sdk.x_vec.retrievers.planning import SearchPlan
    from xtrace_sdk.x_vec.retrievers.results import SearchResults
    from xtrace_sdk.x_vec.retrievers.retriever import Retriever, SearchResult
    from xtrace_sdk.x_vec.stored.sealing import SealSummary, seal_chunks
    from xtrace_sdk.x_vec.upkeep.copying import CopySummary, copy_knowledge_base
    from xtrace_sdk.x_vec.upkeep.manifest import ManifestSummary, write_manifest
    from xtrace_sdk.x_vec.upkeep.rotation import RotationSummary, rotate
    from xtrace_sdk.x_vec.upkeep.verification import Verification, delete_bad, verify

    __version__: str

__all__ = [
    "AWSKMSKeyProvider",
    "Collection",
    "CopySummary",
    "DataLoader",
    "Embedding",
    "ExecutionContext",
    "Hit",
    "InferenceClient",
    "KeyFileProvider",
    "KeyProvider",
    "LoadSummary",
    "ManifestSummary",
    "MetaDataPage",
    "PassphraseKeyProvider",
    "PlaintextDisclosure",
    "PublicPart",
    "Range",
    "Record",
    "RecoveryKey",
    "Retries",
    "Retriever",
    "RotationSummary",
    "SealSummary",
    "SearchPlan",
    "SearchResult",
    "SearchResults",
    "Verification",
    "WeakKeyWarning",
    "Written",
    "XTraceError",
    "XTraceIntegration",
    "__version__",
    "copy_knowledge_base",
    "delete_bad",
    "read_public_part",
    "rotate",
    "seal_chunks",
    "verify",
    "write_manifest",
]

_PLACES: Final = {
    "xtrace_sdk.collection.collection": ("Collection",),
    "xtrace_sdk.collection.filterable": ("Range",),
    "xtrace_sdk.collection.record": ("Hit", "Record", "Written"),
    "xtrace_sdk.errors": ("XTraceError",),
    "xtrace_sdk.service.integration": ("MetaDataPage", "Retries", "XTraceIntegration"),
    "xtrace_sdk.x_vec.contexts.execution_context": (
        "ExecutionContext",
        "PublicPart",
        "WeakKeyWarning",
        "read_public_part",
    ),
    "xtrace_sdk.x_vec.data_loaders.loader": ("DataLoader", "LoadSummary"),
    "xtrace_sdk.x_vec.inference.embedding": ("Embedding",),
    "xtrace_sdk.x_vec.inference.llm": ("InferenceClient", "PlaintextDisclosure"),
    "xtrace_sdk.x_vec.keys.provider": ("AWSKMSKeyProvider", "KeyFileProvider", "KeyProvider", "PassphraseKeyProvider"),
    "xtrace_sdk.x_vec.keys.recovery": ("RecoveryKey",),
    "xtrace_sdk.x_vec.retrievers.planning": ("SearchPlan",),
    "xtrace_sdk.x_vec.retrievers.results": ("SearchResults",),
    "xtrace_sdk.x_vec.retrievers.retriever": ("Retriever", "SearchResult"),
    "xtrace_sdk.x_vec.stored.sealing": ("SealSummary", "seal_chunks"),
    "xtrace_sdk.x_vec.upkeep.copying": ("CopySummary", "copy_knowledge_base"),
    "xtrace_sdk.x_vec.upkeep.manifest": ("ManifestSummary", "write_manifest"),
    "xtrace_sdk.x_vec.upkeep.rotation": ("RotationSummary", "rotate"),
    "xtrace_sdk.x_vec.upkeep.verification": ("Verification", "delete_bad", "verify"),
}
_PLACE_OF: Final = {name: place for place, names in _PLACES.items() for name in names}

warn_of_other_owners()


def __getattr__(name: str) -> Any:
    # Names are imported when they are first used: `import xtrace_sdk` takes milliseconds.
    if name == "__version__":
        from importlib.metadata import version

        return version(DISTRIBUTION)
    if name not in _PLACE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
