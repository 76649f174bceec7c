"""`XTraceEmbeddingRetriever`: the documents of a store for a question's embedding."""

from typing import Any

from haystack import Document, component, default_from_dict, default_to_dict
from haystack.document_stores.types import FilterPolicy
from haystack.document_stores.types.filter_policy import apply_filter_policy

from haystack_integrations.document_stores.xtrace import XTraceDocumentStore


@component
class XTraceEmbeddingRetriever:
    """Finds the documents of an `XTraceDocumentStore` that are most similar to an embedding.

    The scores of documents are cosine similarities, −1 to 1.
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
        """A retriever.

        Args:
            document_store: what is searched.
            filters: leaves out documents that do not match.
            top_k: how many documents; fewer come back only where fewer match.
            min_similarity: leaves out documents of a smaller similarity.
            return_embedding: whether documents come with their embeddings.
            filter_policy: whether filters at run time replace these or are merged with them.

        Raises `ValueError` for another document store.
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
        """The parameters, without a secret."""
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
        """The retriever with these parameters."""
        return default_from_dict(cls, data)

    @component.output_types(documents=list[Document])
    def run(
        self, query_embedding: list[float], filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """The most similar documents, as `documents`. Raises `FilterError`."""
        return {"documents": self.document_store._embedding_retrieval(query_embedding, **self._options(filters, top_k))}

    @component.output_types(documents=list[Document])
    async def run_async(
        self, query_embedding: list[float], filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """As `run`."""
        options = self._options(filters, top_k)
        return {"documents": await self.document_store._embedding_retrieval_async(query_embedding, **options)}

    def _options(self, filters: dict[str, Any] | None, top_k: int | None) -> dict[str, Any]:
        return {
            "filters": apply_filter_policy(self.filter_policy, self.filters, filters),
            "top_k": self.top_k if top_k is None else top_k,
            "min_similarity": self.min_similarity,
            "return_embedding": self.return_embedding,
        }
