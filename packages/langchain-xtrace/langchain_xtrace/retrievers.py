"""`XTraceRetriever`: the documents of a vector store for a question."""

from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import ConfigDict

from langchain_xtrace.vectorstores import XTraceVectorStore


class XTraceRetriever(BaseRetriever):
    """The most similar documents, perhaps filtered, above a similarity, or different from each other.

    What `invoke` is given besides the question overrides the fields: `retriever.invoke("…", k=3)`.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    vectorstore: XTraceVectorStore
    """What is searched."""
    k: int = 4
    """How many documents; fewer come back only where fewer match."""
    filter: dict[str, Any] | None = None
    """A filter of XTrace over the metadata of documents."""
    min_similarity: float | None = None
    """Leaves out documents of a smaller cosine similarity."""
    lambda_mult: float | None = None
    """Chooses by maximal marginal relevance: from 0, most diverse, to 1. None to choose by similarity alone."""

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
