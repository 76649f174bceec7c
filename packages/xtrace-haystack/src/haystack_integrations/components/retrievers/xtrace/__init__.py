"""Retrievers for XTrace's document store."""

from haystack_integrations.components.retrievers.xtrace.retriever import XTraceEmbeddingRetriever

__all__ = ["XTraceEmbeddingRetriever"]
