"""XTrace, the end-to-end encrypted vector database, as a document store of Haystack."""

from haystack_integrations.document_stores.xtrace.document_store import XTraceDocumentStore

__all__ = ["XTraceDocumentStore"]
