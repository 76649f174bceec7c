"""XTrace, the end-to-end encrypted vector database, as a vector store of LlamaIndex."""

from llama_index.vector_stores.xtrace.base import XTraceVectorStore

__all__ = ["XTraceVectorStore"]
