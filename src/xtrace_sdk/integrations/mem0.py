"""mem0 on XTrace: `register()` adds the vector store "xtrace" to mem0, which stores memories as encrypted records.

mem0 has no extension point for vector stores, so `register` adds an entry to its internal tables. This is tested with
only one version.

**mem0's history.** mem0 also writes every memory and the latest messages to a file in plaintext. With this vector
store it keeps them in memory instead, and they are lost when the process ends.
"""

import functools
import logging
import sys
import types
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final

from xtrace_sdk.errors import InvalidArgument

if TYPE_CHECKING:
    from xtrace_sdk.collection.record import Record
    from xtrace_sdk.sync import Collection

__all__ = ["XTrace", "XTraceConfig", "register"]

TESTED: Final = "2.2."
"""The version of mem0 that `register` supports."""
PROVIDER: Final = "xtrace"
_IN_MEMORY: Final = ":memory:"
_TEXT: Final = "data"
"""The field of mem0's payloads that contains the memory."""
_OPERATORS: Final = ("eq", "ne", "gt", "gte", "lt", "lte", "in", "nin", "contains", "icontains")
_GROUPS: Final = {"AND": "$and", "OR": "$or", "NOT": "$nor", "$and": "$and", "$or": "$or", "$not": "$nor"}

_log = logging.getLogger(__name__)


def register() -> None:
    """Adds the vector store "xtrace" to mem0; a second call changes nothing.

    From then on `Memory` and `AsyncMemory` reject a history file for this vector store, and keep the history in memory
    by default. Raises `ImportError` if mem0 is missing or has an untested version.
    """
    try:
        found = version("mem0ai")
    except PackageNotFoundError:
        raise ImportError("mem0 is not installed: pip install 'xtracedb[mem0]'") from None
    if not found.startswith(TESTED):
        raise ImportError(f"mem0ai is {found}, expected {TESTED}x, which was tested: pip install 'xtracedb[mem0]'")
    from mem0.memory.main import AsyncMemory, Memory
    from mem0.utils.factory import VectorStoreFactory
    from mem0.vector_stores.configs import VectorStoreConfig

    module: Any = types.ModuleType(f"mem0.configs.vector_stores.{PROVIDER}")
    module.XTraceConfig = XTraceConfig
    sys.modules[module.__name__] = module
    VectorStoreConfig.__private_attributes__["_provider_configs"].default[PROVIDER] = XTraceConfig.__name__
    VectorStoreFactory.provider_to_class[PROVIDER] = f"{XTrace.__module__}.{XTrace.__name__}"
    for memory in (Memory, AsyncMemory):
        if not hasattr(memory.__init__, "__wrapped__"):
            memory.__init__ = _with_history_in_memory(memory.__init__)


def _with_history_in_memory(init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)
    def guarded(self: Any, *args: Any, **kwargs: Any) -> None:
        config = args[0] if args else kwargs.get("config")
        if config is not None and config.vector_store.provider == PROVIDER:
            _keep_history_in_memory(config)
        init(self, *args, **kwargs)

    return guarded


def _keep_history_in_memory(config: Any) -> None:
    if config.history_db_path == _IN_MEMORY:
        return
    if "history_db_path" in config.model_fields_set:
        raise InvalidArgument(
            "mem0 writes memories and messages in plaintext to the file history_db_path: omit it, or set it to "
            f"{_IN_MEMORY!r}"
        )
    config.history_db_path = _IN_MEMORY
    _log.warning(
        "mem0's history is kept in memory and is lost when the process ends, because its file would contain plaintext"
    )


@dataclass
class XTraceConfig:
    """The `config` of the vector store."""

    open_collection: "Callable[[str], Collection]"
    """Opens a `Collection` of `xtrace_sdk.sync` for one of mem0's names, preferably as a namespace of one knowledge
    base."""
    collection_name: str = "mem0"
    embedding_model_dims: int | None = None
    """Not used: the context has the number of dimensions."""

    def model_dump(self) -> dict[str, Any]:
        """The fields, under mem0's names."""
        return dict(vars(self))


@dataclass
class Output:
    """A memory in the form that mem0 expects."""

    id: str
    score: float | None
    payload: dict[str, Any]


Outputs = list[Output]
"""An alias, because a method of the class below is called `list`."""
Names = list[str]
Batches = list[Outputs]


class XTrace:
    """mem0's memories in an end-to-end encrypted collection."""

    def __init__(
        self,
        open_collection: "Callable[[str], Collection]",
        collection_name: str = "mem0",
        embedding_model_dims: int | None = None,
    ) -> None:
        """The store for mem0's memories with this name."""
        self.collection_name = collection_name
        self._collection = open_collection(collection_name)

    def create_col(self, name: str, vector_size: int, distance: str = "cosine") -> None:
        """Does nothing: opening a collection creates it."""

    def insert(
        self,
        vectors: Sequence[Sequence[float]],
        payloads: Sequence[dict[str, Any]] | None = None,
        ids: Sequence[str] | None = None,
    ) -> None:
        """Stores memories; existing ids are replaced."""
        records = []
        for i, vector in enumerate(vectors):
            text, metadata = _parts(payloads[i] if payloads else {})
            record_id = str(ids[i] if ids else uuid.uuid4())
            records.append({"id": record_id, "text": text, "metadata": metadata, "vector": _floats(vector)})
        self._collection.upsert(records)

    def search(
        self, query: str, vectors: Sequence[float], top_k: int = 5, filters: Mapping[str, Any] | None = None
    ) -> Outputs:
        """The most similar memories; scores are cosine similarities, 0 for negative ones."""
        hits = self._collection.search(_floats(vectors), top_k, where=_where(filters))
        return [_output(hit.record, max(0.0, hit.similarity)) for hit in hits]

    def search_batch(
        self,
        queries: Sequence[str],
        vectors_list: Sequence[Sequence[float]],
        top_k: int = 1,
        filters: Mapping[str, Any] | None = None,
    ) -> Batches:
        """The same for several queries, one after the other."""
        return [
            self.search(query, vectors, top_k, filters) for query, vectors in zip(queries, vectors_list, strict=True)
        ]

    def keyword_search(self, query: str, top_k: int = 5, filters: Mapping[str, Any] | None = None) -> None:
        """Returns None, which tells mem0 that keyword search is not available: the server cannot read words."""

    def delete(self, vector_id: str) -> None:
        """Deletes a memory."""
        self._collection.delete([vector_id])

    def update(
        self, vector_id: str, vector: Sequence[float] | None = None, payload: dict[str, Any] | None = None
    ) -> None:
        """Changes only the given parts of a memory."""
        changes: dict[str, Any] = {}
        if payload is not None:
            changes["text"], changes["metadata"] = _parts(payload)
        if vector is not None:
            changes["vector"] = _floats(vector)
        self._collection.update(vector_id, **changes)

    def get(self, vector_id: str) -> Output | None:
        """A memory, or None if it does not exist."""
        found = self._collection.get([vector_id])
        return _output(found[0]) if found else None

    def list(self, filters: Mapping[str, Any] | None = None, top_k: int | None = None) -> Batches:
        """The matching memories, in a list in a list, as mem0 expects them."""
        found: Outputs = []
        for record in self._collection.iter(_where(filters)):
            if len(found) == top_k:
                break
            found.append(_output(record))
        return [found]

    def list_cols(self) -> Names:
        """Only the name of this collection: others are unknown."""
        return [self.collection_name]

    def col_info(self) -> dict[str, Any]:
        """The name and the number of memories."""
        return {"name": self.collection_name, "count": self._collection.count()}

    def delete_col(self) -> None:
        """Deletes all memories."""
        self._collection.clear()

    def reset(self) -> None:
        """The same."""
        self._collection.clear()


def _floats(vector: Iterable[float]) -> list[float]:
    # A collection would mistake whole numbers for bits.
    return [float(one) for one in vector]


def _parts(payload: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """Returns the text of a payload, and everything else."""
    text = payload.get(_TEXT)
    return text, {name: value for name, value in payload.items() if name != _TEXT}


def _output(record: "Record", score: float | None = None) -> Output:
    text = {} if record.text is None else {_TEXT: record.text}
    return Output(record.id, score, {**text, **record.metadata})


def _where(filters: Mapping[str, Any] | None) -> dict[str, Any]:
    """Returns the XTrace filter that is equivalent to mem0's."""
    parts = [_condition(name, value) for name, value in (filters or {}).items()]
    return {"$and": parts} if parts else {}


def _condition(name: str, value: Any) -> dict[str, Any]:
    if name in _GROUPS:
        return {_GROUPS[name]: [_where(one) for one in value]}
    path = "$text" if name == _TEXT else name
    if value == "*":
        return {path: {"$exists": True}}
    if isinstance(value, Mapping):
        unknown = set(value) - set(_OPERATORS)
        if unknown:
            raise InvalidArgument(
                f"a filter has an operator that mem0 does not have, expected one of {', '.join(_OPERATORS)}"
            )
        return {path: {f"${operator}": operand for operator, operand in value.items()}}
    return {path: {"$in": value} if isinstance(value, list) else value}
