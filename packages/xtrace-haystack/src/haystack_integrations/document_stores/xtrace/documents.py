"""Converts Haystack's documents to records, and back."""

import base64
from typing import Any

import numpy as np
from haystack import Document
from haystack.dataclasses import ByteStream, SparseEmbedding

from xtrace_sdk import Record


def record(document: Document) -> Record:
    """Returns the record for a document, without a vector if the document has no embedding."""
    metadata: dict[str, Any] = {"meta": document.meta}
    if document.blob is not None:
        blob = document.blob
        data = base64.b64encode(blob.data).decode()
        metadata["blob"] = {"data": data, "meta": blob.meta, "mime_type": blob.mime_type}
    if document.sparse_embedding is not None:
        metadata["sparse_embedding"] = document.sparse_embedding.to_dict()
    # Integers too: a collection would interpret them as bits.
    vector: Any = [] if document.embedding is None else np.asarray(document.embedding, dtype=np.float32)
    return Record(document.id, document.content, metadata, vector)


def document(stored: Record, score: float | None = None) -> Document:
    """Returns the document in a record, with its embedding if the record has its vector."""
    metadata = stored.metadata
    blob, sparse = metadata.get("blob"), metadata.get("sparse_embedding")
    return Document(
        id=stored.id,
        content=stored.text,
        blob=None if blob is None else ByteStream(base64.b64decode(blob["data"]), blob["meta"], blob["mime_type"]),
        meta=metadata["meta"],
        score=score,
        embedding=None if stored.vector is None else stored.vector.tolist(),
        sparse_embedding=None if sparse is None else SparseEmbedding.from_dict(sparse),
    )
