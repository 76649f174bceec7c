"""`XTraceVectorStore`: stores LlamaIndex's nodes as records of a collection."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.schema import BaseNode, MetadataMode
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)
from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict

import xtrace_sdk
from llama_index.vector_stores.xtrace.filters import Where, where
from xtrace_sdk import Hit, Record, sync

_PREFETCH_FACTOR: Final = 4
"""Maximal marginal relevance selects among this many times the number of results."""


class XTraceVectorStore(BasePydanticVectorStore):
    """Stores nodes in an end-to-end encrypted collection.

    Texts, vectors, ids and metadata are encrypted on this machine; filters are exact. Every node is one record with the
    node's id. The query modes are DEFAULT and MMR.
    """

    stores_text: bool = True
    flat_metadata: bool = False

    _collection: sync.Collection = PrivateAttr()

    def __init__(self, collection: xtrace_sdk.Collection | sync.Collection, **kwargs: Any) -> None:
        """Creates a vector store on top of a collection from `xtrace_sdk` or `xtrace_sdk.sync`.

        Both support synchronous and asynchronous calls.
        """
        super().__init__(**kwargs)
        self._collection = sync.Collection.of(collection)

    @classmethod
    def class_name(cls) -> str:
        """The name of the class in LlamaIndex's serialised form."""
        return "XTraceVectorStore"

    @property
    def client(self) -> sync.Collection:
        """The collection."""
        return self._collection

    @property
    def _async_collection(self) -> xtrace_sdk.Collection:
        return self._collection.asynchronous

    # Storing

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Stores nodes and returns their ids. An existing id is replaced.

        Raises `ValueError` for a node without an embedding, and everything that `Collection.upsert` raises.
        """
        self._collection.upsert([_record(node) for node in nodes])
        return [node.node_id for node in nodes]

    async def async_add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Asynchronous form of `add`."""
        await self._async_collection.upsert([_record(node) for node in nodes])
        return [node.node_id for node in nodes]

    # Reading and deleting

    def get_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> list[BaseNode]:
        """Returns the nodes with these ids that match these filters; without both, all nodes."""
        if node_ids is not None and filters is None:
            return _nodes(self._collection.get(node_ids))
        return _nodes(self._collection.iter(_selected(node_ids, filters)))

    async def aget_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None
    ) -> list[BaseNode]:
        """Asynchronous form of `get_nodes`."""
        if node_ids is not None and filters is None:
            return _nodes(await self._async_collection.get(node_ids))
        return _nodes([one async for one in self._async_collection.iter(_selected(node_ids, filters))])

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Deletes the nodes of a document."""
        self._collection.delete(where={_DOCUMENT: ref_doc_id})

    async def adelete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Asynchronous form of `delete`."""
        await self._async_collection.delete(where={_DOCUMENT: ref_doc_id})

    def delete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """Deletes the nodes with these ids that match these filters; at least one of the two is required.

        Raises `ValueError` without both. Use `clear` to delete all nodes.
        """
        self._collection.delete(**_deleted(node_ids, filters))

    async def adelete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """Asynchronous form of `delete_nodes`."""
        await self._async_collection.delete(**_deleted(node_ids, filters))

    def clear(self) -> None:
        """Deletes all nodes."""
        self._collection.clear()

    async def aclear(self) -> None:
        """Asynchronous form of `clear`."""
        await self._async_collection.clear()

    # By similarity

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """Returns the most similar nodes, the most similar first, with their cosine similarities.

        The mode MMR selects nodes that are relevant and differ from each other, in the order of their selection. It
        selects among `mmr_prefetch_k` nodes, or `mmr_prefetch_factor` (default 4) times the number of results.
        `mmr_threshold` ranges from 0 (most diverse) to 1.

        Raises `ValueError` for any other mode, and for a query without an embedding.
        """
        vector, options = _vector(query), _options(query)
        if query.mode == VectorStoreQueryMode.MMR:
            return _result(self._collection.search_mmr(vector, **options, **_mmr_options(query, kwargs)))
        return _result(self._collection.search(vector, **options))

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """Asynchronous form of `query`."""
        vector, options = _vector(query), _options(query)
        if query.mode == VectorStoreQueryMode.MMR:
            return _result(await self._async_collection.search_mmr(vector, **options, **_mmr_options(query, kwargs)))
        return _result(await self._async_collection.search(vector, **options))


_DOCUMENT: Final = "ref_doc_id"
"""The field in which `node_to_metadata_dict` stores the id of a node's document."""


def _record(node: BaseNode) -> Record:
    metadata = node_to_metadata_dict(node, remove_text=True, flat_metadata=False)
    vector = np.asarray(node.get_embedding(), dtype=np.float32)
    return Record(node.node_id, node.get_content(metadata_mode=MetadataMode.NONE), metadata, vector)


def _nodes(records: Iterable[Record]) -> list[BaseNode]:
    return [metadata_dict_to_node(one.metadata, text=one.text) for one in records]


def _selected(node_ids: list[str] | None, filters: MetadataFilters | None) -> Where:
    return where(filters) if node_ids is None else {"$and": [{"$id": {"$in": node_ids}}, where(filters)]}


def _deleted(node_ids: list[str] | None, filters: MetadataFilters | None) -> dict[str, Any]:
    if node_ids is None and (filters is None or not filters.filters):
        raise ValueError("got neither node_ids nor filters, expected at least one; clear() deletes all nodes")
    return {"where": _selected(node_ids, filters)} if filters else {"ids": node_ids}


def _vector(query: VectorStoreQuery) -> Any:
    if query.mode not in (VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.MMR):
        raise ValueError(f"the mode of the query is {query.mode.value}, expected default or mmr")
    if query.query_embedding is None:
        raise ValueError("the query has no embedding, expected query_embedding")
    return np.asarray(query.query_embedding, dtype=np.float32)


def _options(query: VectorStoreQuery) -> dict[str, Any]:
    # A `VectorStoreIndex` passes an empty list if there is no restriction.
    parts = [where(query.filters)]
    if query.doc_ids:
        parts.append({_DOCUMENT: {"$in": query.doc_ids}})
    if query.node_ids:
        parts.append({"$id": {"$in": query.node_ids}})
    return {"k": query.similarity_top_k, "where": {"$and": parts}}


def _mmr_options(query: VectorStoreQuery, given: dict[str, Any]) -> dict[str, Any]:
    threshold = given.get("mmr_threshold", query.mmr_threshold)
    factor = given.get("mmr_prefetch_factor", _PREFETCH_FACTOR)
    return {
        "candidates": given.get("mmr_prefetch_k", int(factor * query.similarity_top_k)),
        "diversity": 1 - (0.5 if threshold is None else threshold),
    }


def _result(hits: Sequence[Hit]) -> VectorStoreQueryResult:
    return VectorStoreQueryResult(
        nodes=_nodes(hit.record for hit in hits),
        similarities=[hit.similarity for hit in hits],
        ids=[hit.record.id for hit in hits],
    )
