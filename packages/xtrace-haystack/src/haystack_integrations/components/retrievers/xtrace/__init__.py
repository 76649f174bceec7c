"""Retrievers over a document store of XTrace."""

from haystack_integrations.components.retrievers.xtrace.retriever import XTraceEmbeddingRetriever

__all__ = ["XTraceEmbeddingRetriever"]
