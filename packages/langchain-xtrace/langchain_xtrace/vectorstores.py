"""`XTraceVectorStore`: stores LangChain's documents as records of a collection."""

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore
from numpy.typing import NDArray

import xtrace_sdk
from xtrace_sdk import Hit, Record, sync

Filter = Mapping[str, Any] | str
"""An XTrace filter (docs/collection.md) on the documents' metadata: an object, or its JSON text."""
Vectors = Sequence[Sequence[float]]


class XTraceVectorStore(VectorStore):
    """Stores documents in an end-to-end encrypted collection.

    Texts, vectors, ids and metadata are encrypted on this machine. A `filter` is an object such as
    `{"year": {"$gte": 2024}}`. Searches also accept the keyword arguments of `Collection.search`: `rescore`, `decoys`,
    `min_similarity`.
    """

    def __init__(
        self, collection: xtrace_sdk.Collection | sync.Collection, embedding: Embeddings | None = None
    ) -> None:
        """Creates a vector store on top of a collection.

        Args:
            collection: from `xtrace_sdk` or `xtrace_sdk.sync`; both support synchronous and asynchronous calls.
            embedding: the embedding model; by default the collection's own.
        """
        self._collection = sync.Collection.of(collection)
        self._async_collection = self._collection.asynchronous
        self._embedding = embedding

    @property
    def embeddings(self) -> Embeddings | None:
        """The model that was passed in; None if the collection embeds."""
        return self._embedding

    # Storing

    @classmethod
    def from_texts(  # type: ignore[override]  # the model is optional, the collection is required
        cls,
        texts: list[str],
        embedding: Embeddings | None = None,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        collection: xtrace_sdk.Collection | sync.Collection,
        **kwargs: Any,
    ) -> Self:
        """Creates a vector store on top of `collection`, and stores these texts in it."""
        store = cls(collection, embedding)
        store.add_texts(texts, metadatas, ids=ids, **kwargs)
        return store

    @classmethod
    async def afrom_texts(  # type: ignore[override]  # as above
        cls,
        texts: list[str],
        embedding: Embeddings | None = None,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        collection: xtrace_sdk.Collection | sync.Collection,
        **kwargs: Any,
    ) -> Self:
        """Asynchronous form of `from_texts`."""
        store = cls(collection, embedding)
        await store.aadd_texts(texts, metadatas, ids=ids, **kwargs)
        return store

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Stores texts and returns their ids. An existing id is replaced; a text without an id gets a random one.

        Raises `ValueError` if the numbers of texts, metadatas and ids differ, and everything that `Collection.upsert`
        raises.
        """
        texts = list(texts)
        vectors = None if self._embedding is None else self._embedding.embed_documents(texts)
        records = _records(texts, vectors, metadatas, ids)
        self._collection.upsert(records)
        return [record.id for record in records]

    async def aadd_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Asynchronous form of `add_texts`."""
        texts = list(texts)
        vectors = None if self._embedding is None else await self._embedding.aembed_documents(texts)
        records = _records(texts, vectors, metadatas, ids)
        await self._async_collection.upsert(records)
        return [record.id for record in records]

    def add_documents(
        self, documents: list[Document], *, ids: Sequence[str | None] | None = None, **kwargs: Any
    ) -> list[str]:
        """Stores documents under `ids`, by default their own, and returns the ids."""
        return self.add_texts(*_parts(documents), ids=ids or [one.id for one in documents])

    async def aadd_documents(
        self, documents: list[Document], *, ids: Sequence[str | None] | None = None, **kwargs: Any
    ) -> list[str]:
        """Asynchronous form of `add_documents`."""
        return await self.aadd_texts(*_parts(documents), ids=ids or [one.id for one in documents])

    # By id

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        """Deletes the documents with these ids, or all documents if `ids` is None. Unknown ids are ignored."""
        if ids is None:
            self._collection.clear()
        else:
            self._collection.delete(ids)
        return True

    async def adelete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        """Asynchronous form of `delete`."""
        if ids is None:
            await self._async_collection.clear()
        else:
            await self._async_collection.delete(ids)
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Returns the documents with these ids, in the same order. Unknown ids are skipped."""
        return [_document(one) for one in self._collection.get(list(ids))]

    async def aget_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Asynchronous form of `get_by_ids`."""
        return [_document(one) for one in await self._async_collection.get(list(ids))]

    # By similarity

    def similarity_search(self, query: str, k: int = 4, filter: Filter | None = None, **kwargs: Any) -> list[Document]:
        """Returns the `k` documents most similar to a text, the most similar first."""
        return _documents(self._collection.search(self._embedded(query), k, where=filter, **kwargs))

    async def asimilarity_search(
        self, query: str, k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[Document]:
        """Asynchronous form of `similarity_search`."""
        return _documents(await self._async_collection.search(await self._aembedded(query), k, where=filter, **kwargs))

    def similarity_search_with_score(
        self, query: str, k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """Like the search without scores, with cosine similarities from −1 to 1."""
        return _scored(self._collection.search(self._embedded(query), k, where=filter, **kwargs))

    async def asimilarity_search_with_score(
        self, query: str, k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """Asynchronous form of `similarity_search_with_score`."""
        return _scored(await self._async_collection.search(await self._aembedded(query), k, where=filter, **kwargs))

    def similarity_search_by_vector(
        self, embedding: list[float], k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[Document]:
        """Returns the `k` documents most similar to a vector, the most similar first."""
        return _documents(self._collection.search(_floats(embedding), k, where=filter, **kwargs))

    async def asimilarity_search_by_vector(
        self, embedding: list[float], k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[Document]:
        """Asynchronous form of `similarity_search_by_vector`."""
        return _documents(await self._async_collection.search(_floats(embedding), k, where=filter, **kwargs))

    def similarity_search_with_score_by_vector(
        self, embedding: list[float], k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """Like the search without scores, with cosine similarities from −1 to 1."""
        return _scored(self._collection.search(_floats(embedding), k, where=filter, **kwargs))

    async def asimilarity_search_with_score_by_vector(
        self, embedding: list[float], k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """Asynchronous form of `similarity_search_with_score_by_vector`."""
        return _scored(await self._async_collection.search(_floats(embedding), k, where=filter, **kwargs))

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        return _relevance

    async def _asimilarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        # LangChain's default would run the synchronous search in a thread.
        found = await self.asimilarity_search_with_score(query, k, **kwargs)
        return [(document, _relevance(similarity)) for document, similarity in found]

    # Maximal marginal relevance

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        """Selects `k` documents for relevance and diversity among the `fetch_k` most similar to a text.

        `lambda_mult` ranges from 0 (most diverse) to 1 (the same as `similarity_search`).
        """
        options = _mmr_options(fetch_k, lambda_mult, filter)
        return _documents(self._collection.search_mmr(self._embedded(query), k, **options, **kwargs))

    async def amax_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        """Asynchronous form of `max_marginal_relevance_search`."""
        options = _mmr_options(fetch_k, lambda_mult, filter)
        vector = await self._aembedded(query)
        return _documents(await self._async_collection.search_mmr(vector, k, **options, **kwargs))

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        """Like `max_marginal_relevance_search`, for a vector."""
        options = _mmr_options(fetch_k, lambda_mult, filter)
        return _documents(self._collection.search_mmr(_floats(embedding), k, **options, **kwargs))

    async def amax_marginal_relevance_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        """Asynchronous form of `max_marginal_relevance_search_by_vector`."""
        options = _mmr_options(fetch_k, lambda_mult, filter)
        return _documents(await self._async_collection.search_mmr(_floats(embedding), k, **options, **kwargs))

    # Queries as the collection takes them

    def _embedded(self, query: str) -> str | NDArray[np.float32]:
        return query if self._embedding is None else _floats(self._embedding.embed_query(query))

    async def _aembedded(self, query: str) -> str | NDArray[np.float32]:
        return query if self._embedding is None else _floats(await self._embedding.aembed_query(query))


def _floats(vector: Sequence[float]) -> NDArray[np.float32]:
    # Integers too: a collection would interpret them as bits.
    return np.asarray(vector, dtype=np.float32)


def _parts(documents: Sequence[Document]) -> tuple[list[str], list[dict[str, Any]]]:
    return [one.page_content for one in documents], [one.metadata for one in documents]


def _records(
    texts: Sequence[str],
    vectors: Vectors | None,
    metadatas: Sequence[Mapping[str, Any]] | None,
    ids: Sequence[str | None] | None,
) -> list[Record]:
    count = len(texts)
    given = {"metadatas": metadatas, "ids": ids, "vectors": vectors}
    for name, values in given.items():
        if values and len(values) != count:
            raise ValueError(f"got {count} texts but {len(values)} {name}; the counts must match")
    return [
        Record(
            (ids[i] if ids else None) or str(uuid.uuid4()),
            text,
            dict(metadatas[i]) if metadatas else {},
            None if vectors is None else _floats(vectors[i]),
        )
        for i, text in enumerate(texts)
    ]


def _document(record: Record) -> Document:
    return Document(id=record.id, page_content=record.text or "", metadata=record.metadata)


def _documents(hits: Iterable[Hit]) -> list[Document]:
    return [_document(hit.record) for hit in hits]


def _scored(hits: Iterable[Hit]) -> list[tuple[Document, float]]:
    return [(_document(hit.record), hit.similarity) for hit in hits]


def _mmr_options(fetch_k: int, lambda_mult: float, where: Filter | None) -> dict[str, Any]:
    return {"candidates": fetch_k, "diversity": 1 - lambda_mult, "where": where}


def _relevance(similarity: float) -> float:
    """Converts a cosine similarity to LangChain's relevance, from 0 to 1."""
    return (1 + similarity) / 2
