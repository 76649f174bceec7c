"""`XTraceEmbeddingRetriever`: finds the documents nearest to an embedding."""

from typing import Any

from haystack import Document, component, default_from_dict, default_to_dict
from haystack.document_stores.types import FilterPolicy
from haystack.document_stores.types.filter_policy import apply_filter_policy

from haystack_integrations.document_stores.xtrace import XTraceDocumentStore


@component
class XTraceEmbeddingRetriever:
    """Finds the documents of an `XTraceDocumentStore` that are most similar to an embedding.

    Scores are cosine similarities, from −1 to 1.
    """

    def __init__(
        self,
        document_store: XTraceDocumentStore,
        *,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        min_similarity: float | None = None,
        return_embedding: bool = False,
        filter_policy: str | FilterPolicy = FilterPolicy.REPLACE,
    ) -> None:
        """Creates a retriever.

        Args:
            document_store: the store to search.
            filters: exclude documents that do not match.
            top_k: the number of documents to return; fewer if fewer match.
            min_similarity: excludes documents with a lower similarity.
            return_embedding: whether to return the documents' embeddings.
            filter_policy: whether filters passed to `run` replace `filters` or are merged with them.

        Raises `ValueError` for any other kind of document store.
        """
        if not isinstance(document_store, XTraceDocumentStore):
            raise ValueError(f"got a store of type {type(document_store).__name__}, expected an XTraceDocumentStore")
        self.document_store = document_store
        self.filters = filters
        self.top_k = top_k
        self.min_similarity = min_similarity
        self.return_embedding = return_embedding
        self.filter_policy = (
            filter_policy if isinstance(filter_policy, FilterPolicy) else FilterPolicy.from_str(filter_policy)
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns the parameters, without secrets."""
        return default_to_dict(
            self,
            document_store=self.document_store.to_dict(),
            filters=self.filters,
            top_k=self.top_k,
            min_similarity=self.min_similarity,
            return_embedding=self.return_embedding,
            filter_policy=self.filter_policy.value,
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "XTraceEmbeddingRetriever":
        """Creates the retriever with these parameters."""
        return default_from_dict(cls, data)

    @component.output_types(documents=list[Document])
    def run(
        self, query_embedding: list[float], filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """Returns the most similar documents, as `documents`. Raises `FilterError` if a filter is not valid."""
        return {"documents": self.document_store._embedding_retrieval(query_embedding, **self._options(filters, top_k))}

    @component.output_types(documents=list[Document])
    async def run_async(
        self, query_embedding: list[float], filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """Asynchronous form of `run`."""
        options = self._options(filters, top_k)
        return {"documents": await self.document_store._embedding_retrieval_async(query_embedding, **options)}

    def _options(self, filters: dict[str, Any] | None, top_k: int | None) -> dict[str, Any]:
        return {
            "filters": apply_filter_policy(self.filter_policy, self.filters, filters),
            "top_k": self.top_k if top_k is None else top_k,
            "min_similarity": self.min_similarity,
            "return_embedding": self.return_embedding,
        }
