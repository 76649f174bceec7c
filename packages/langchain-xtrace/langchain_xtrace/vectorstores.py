"""`XTraceVectorStore`: LangChain's documents as the records of a collection."""

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
"""A filter of XTrace (docs/collection.md), over the metadata of documents: an object, or its JSON text."""
Vectors = Sequence[Sequence[float]]


class XTraceVectorStore(VectorStore):
    """Documents in an end-to-end encrypted collection.

    Texts, vectors, ids and metadata are encrypted here. Every `filter` is an object such as `{"year": {"$gte": 2024}}`.
    Further keyword arguments of a search are those of `Collection.search`: `rescore`, `decoys`, `min_similarity`.
    """

    def __init__(
        self, collection: xtrace_sdk.Collection | sync.Collection, embedding: Embeddings | None = None
    ) -> None:
        """A vector store over a collection.

        Args:
            collection: of `xtrace_sdk` or of `xtrace_sdk.sync`; both serve synchronous and asynchronous calls.
            embedding: the model of texts; by default the collection's own.
        """
        self._collection = sync.Collection.of(collection)
        self._async_collection = self._collection.asynchronous
        self._embedding = embedding

    @property
    def embeddings(self) -> Embeddings | None:
        """The model that was given; None where the collection's own embeds."""
        return self._embedding

    # Storing

    @classmethod
    def from_texts(  # type: ignore[override]  # a model may be missing, a collection must not be
        cls,
        texts: list[str],
        embedding: Embeddings | None = None,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        collection: xtrace_sdk.Collection | sync.Collection,
        **kwargs: Any,
    ) -> Self:
        """A vector store over `collection`, with these texts in it."""
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
        """As `from_texts`."""
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
        """Stores texts, and returns their ids; what is there under an id is replaced.

        A text without an id gets a random one. Raises `ValueError` where texts, metadatas and ids differ in number,
        and what `Collection.upsert` raises.
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
        """As `add_texts`."""
        texts = list(texts)
        vectors = None if self._embedding is None else await self._embedding.aembed_documents(texts)
        records = _records(texts, vectors, metadatas, ids)
        await self._async_collection.upsert(records)
        return [record.id for record in records]

    def add_documents(
        self, documents: list[Document], *, ids: Sequence[str | None] | None = None, **kwargs: Any
    ) -> list[str]:
        """Stores documents under `ids`, or else under their own, and returns the ids."""
        return self.add_texts(*_parts(documents), ids=ids or [one.id for one in documents])

    async def aadd_documents(
        self, documents: list[Document], *, ids: Sequence[str | None] | None = None, **kwargs: Any
    ) -> list[str]:
        """As `add_documents`."""
        return await self.aadd_texts(*_parts(documents), ids=ids or [one.id for one in documents])

    # By id

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        """Deletes the documents with these ids, or all where `ids` is None; unknown ids are passed over."""
        if ids is None:
            self._collection.clear()
        else:
            self._collection.delete(ids)
        return True

    async def adelete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        """As `delete`."""
        if ids is None:
            await self._async_collection.clear()
        else:
            await self._async_collection.delete(ids)
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """The documents with these ids, in their order; unknown ids are left out."""
        return [_document(one) for one in self._collection.get(list(ids))]

    async def aget_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """As `get_by_ids`."""
        return [_document(one) for one in await self._async_collection.get(list(ids))]

    # By similarity

    def similarity_search(self, query: str, k: int = 4, filter: Filter | None = None, **kwargs: Any) -> list[Document]:
        """The `k` documents that are most similar to a text, most similar first."""
        return _documents(self._collection.search(self._embedded(query), k, where=filter, **kwargs))

    async def asimilarity_search(
        self, query: str, k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[Document]:
        """As `similarity_search`."""
        return _documents(await self._async_collection.search(await self._aembedded(query), k, where=filter, **kwargs))

    def similarity_search_with_score(
        self, query: str, k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """The same, with cosine similarities from −1 to 1."""
        return _scored(self._collection.search(self._embedded(query), k, where=filter, **kwargs))

    async def asimilarity_search_with_score(
        self, query: str, k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """As `similarity_search_with_score`."""
        return _scored(await self._async_collection.search(await self._aembedded(query), k, where=filter, **kwargs))

    def similarity_search_by_vector(
        self, embedding: list[float], k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[Document]:
        """The `k` documents that are most similar to a vector, most similar first."""
        return _documents(self._collection.search(_floats(embedding), k, where=filter, **kwargs))

    async def asimilarity_search_by_vector(
        self, embedding: list[float], k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[Document]:
        """As `similarity_search_by_vector`."""
        return _documents(await self._async_collection.search(_floats(embedding), k, where=filter, **kwargs))

    def similarity_search_with_score_by_vector(
        self, embedding: list[float], k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """The same, with cosine similarities from −1 to 1."""
        return _scored(self._collection.search(_floats(embedding), k, where=filter, **kwargs))

    async def asimilarity_search_with_score_by_vector(
        self, embedding: list[float], k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """As `similarity_search_with_score_by_vector`."""
        return _scored(await self._async_collection.search(_floats(embedding), k, where=filter, **kwargs))

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        return _relevance

    async def _asimilarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        # LangChain's own would run the synchronous search in a thread.
        found = await self.asimilarity_search_with_score(query, k, **kwargs)
        return [(document, _relevance(similarity)) for document, similarity in found]

    # Relevant, and different from each other

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        """`k` documents, chosen for relevance and diversity among the `fetch_k` most similar to a text.

        `lambda_mult` runs from 0, most diverse, to 1, as `similarity_search`.
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
        """As `max_marginal_relevance_search`."""
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
        """The same for a vector."""
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
        """As `max_marginal_relevance_search_by_vector`."""
        options = _mmr_options(fetch_k, lambda_mult, filter)
        return _documents(await self._async_collection.search_mmr(_floats(embedding), k, **options, **kwargs))

    # Queries as the collection takes them

    def _embedded(self, query: str) -> str | NDArray[np.float32]:
        return query if self._embedding is None else _floats(self._embedding.embed_query(query))

    async def _aembedded(self, query: str) -> str | NDArray[np.float32]:
        return query if self._embedding is None else _floats(await self._embedding.aembed_query(query))


def _floats(vector: Sequence[float]) -> NDArray[np.float32]:
    # Whole numbers, too: a collection would take those for bits.
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
    """LangChain's relevance, from 0 to 1, of a cosine similarity."""
    return (1 + similarity) / 2
