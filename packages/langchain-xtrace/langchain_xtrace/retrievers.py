"""`XTraceRetriever`: finds the documents for a question in a vector store."""

from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import ConfigDict

from langchain_xtrace.vectorstores import XTraceVectorStore


class XTraceRetriever(BaseRetriever):
    """Finds the most similar documents, optionally with a filter, a minimum similarity, or maximal marginal relevance.

    Keyword arguments of `invoke` override the fields: `retriever.invoke("…", k=3)`.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    vectorstore: XTraceVectorStore
    """The store to search."""
    k: int = 4
    """The number of documents to return; fewer if fewer match."""
    filter: dict[str, Any] | None = None
    """An XTrace filter on the documents' metadata."""
    min_similarity: float | None = None
    """Excludes documents with a lower cosine similarity."""
    lambda_mult: float | None = None
    """Selects by maximal marginal relevance, from 0 (most diverse) to 1. None selects by similarity alone."""

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[Document]:
        options = self._options(kwargs)
        if "lambda_mult" in options:
            return self.vectorstore.max_marginal_relevance_search(query, **options)
        return self.vectorstore.similarity_search(query, **options)

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[Document]:
        options = self._options(kwargs)
        if "lambda_mult" in options:
            return await self.vectorstore.amax_marginal_relevance_search(query, **options)
        return await self.vectorstore.asimilarity_search(query, **options)

    def _options(self, given: dict[str, Any]) -> dict[str, Any]:
        names = ("k", "filter", "min_similarity", "lambda_mult")
        return {name: value for name in names if (value := getattr(self, name)) is not None} | given
