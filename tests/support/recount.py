"""What an organisation has stored, counted from the rows themselves: what the sums that the service keeps must be."""

import sqlite3
from contextlib import closing
from pathlib import Path

_CHUNKS = """
SELECT count(*), coalesce(sum(
    length(CAST(chunk.name AS BLOB)) + coalesce(length(chunk.nonce), 0) + length(ciphertext.row)
    + length(CAST(content.content AS BLOB))
    + coalesce(length(CAST(tag1 AS BLOB)), 0) + coalesce(length(CAST(tag2 AS BLOB)), 0)
    + coalesce(length(CAST(tag3 AS BLOB)), 0) + coalesce(length(CAST(tag4 AS BLOB)), 0)
    + coalesce(length(CAST(tag5 AS BLOB)), 0)
    + (SELECT coalesce(sum(length(CAST(token AS BLOB))), 0) FROM facet WHERE chunk_pk = chunk.pk)
), 0)
FROM chunk JOIN ciphertext USING (pk) JOIN content USING (pk)
JOIN binding ON binding.pk = chunk.binding_pk JOIN knowledge_base ON knowledge_base.pk = binding.kb_pk
WHERE organisation_id = ? AND deleted_at IS NULL AND chunk.pk NOT IN (SELECT pk FROM deleted_chunk)
"""
_CONTEXTS = """
SELECT count(*), coalesce(sum(
    length(CAST(id AS BLOB)) + length(CAST(type AS BLOB)) + length(CAST(public_key AS BLOB))
    + length(CAST(config AS BLOB)) + coalesce(length(CAST(name AS BLOB)), 0)
    + coalesce(length(CAST(encrypted_secret AS BLOB)), 0) + coalesce(length(CAST(key_provider AS BLOB)), 0)
    + coalesce(length(CAST(wrapped_key AS BLOB)), 0)
), 0)
FROM execution_context WHERE organisation_id = ?
"""


def recounted(database: Path, organisation_id: str) -> dict[str, int]:
    """Returns the chunks, bytes and contexts of an organisation, as `usage` has them."""
    with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as connection:
        chunks, chunk_bytes = connection.execute(_CHUNKS, (organisation_id,)).fetchone()
        contexts, context_bytes = connection.execute(_CONTEXTS, (organisation_id,)).fetchone()
    return {"chunks": chunks, "bytes": chunk_bytes + context_bytes, "contexts": contexts}


def kept(database: Path, organisation_id: str) -> dict[str, int]:
    """Returns the same as the service keeps it; what it keeps of knowledge bases is in agreement with it."""
    with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as connection:
        query = "SELECT chunks, stored_bytes, contexts FROM organisation WHERE id = ?"
        chunks, stored_bytes, contexts = connection.execute(query, (organisation_id,)).fetchone()
        query = "SELECT coalesce(sum(number_of_vectors), 0), coalesce(sum(stored_bytes), 0) FROM knowledge_base"
        where = " WHERE organisation_id = ? AND deleted_at IS NULL"
        of_kbs = connection.execute(query + where, (organisation_id,)).fetchone()
        context_bytes = connection.execute(_CONTEXTS, (organisation_id,)).fetchone()[1]
    assert of_kbs == (chunks, stored_bytes - context_bytes)
    return {"chunks": chunks, "bytes": stored_bytes, "contexts": contexts}
