"""What an organisation has stored, counted from the rows themselves: what the sums that the service keeps must be."""

import re
from pathlib import Path

from support import databases

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
_OF_ORGANISATION = "SELECT chunks, stored_bytes, contexts FROM organisation WHERE id = ?"
_OF_KNOWLEDGE_BASES = """
SELECT coalesce(sum(number_of_vectors), 0), coalesce(sum(stored_bytes), 0) FROM knowledge_base
WHERE organisation_id = ? AND deleted_at IS NULL
"""
_BLOCKS = """
SELECT coalesce(sum(length(header) + length(hints) + length(body) + 256), 0)
FROM block JOIN block_body ON block_body.pk = block.pk
JOIN binding ON binding.pk = block.binding_pk JOIN knowledge_base ON knowledge_base.pk = binding.kb_pk
WHERE organisation_id = ? AND deleted_at IS NULL AND live_count > 0
"""
_INDEXES = """
SELECT coalesce(sum(length(manifest) + length(segments) + 256), 0)
FROM shared_index JOIN binding ON binding.pk = shared_index.binding_pk
JOIN knowledge_base ON knowledge_base.pk = binding.kb_pk WHERE organisation_id = ? AND deleted_at IS NULL
"""
_SEGMENTS = """
SELECT coalesce(sum(length(body) + 256), 0)
FROM index_segment JOIN index_segment_body ON index_segment_body.pk = index_segment.pk
JOIN binding ON binding.pk = index_segment.binding_pk
JOIN knowledge_base ON knowledge_base.pk = binding.kb_pk WHERE organisation_id = ? AND deleted_at IS NULL
"""
_BESIDE = (_BLOCKS, _INDEXES, _SEGMENTS)
"""What counts for an organisation and not for a knowledge base."""


def recounted(folder: Path, organisation_id: str) -> dict[str, int]:
    """Returns the chunks, bytes and contexts of an organisation, as `usage` has them; `folder` is the server's."""
    queries = (_CHUNKS, _CONTEXTS, *_BESIDE)
    chunks, chunk_bytes, contexts, context_bytes, *beside = _numbers(folder, organisation_id, *queries)
    return {"chunks": chunks, "bytes": chunk_bytes + context_bytes + sum(beside), "contexts": contexts}


def kept(folder: Path, organisation_id: str) -> dict[str, int]:
    """Returns the same as the service keeps it; what it keeps of knowledge bases is in agreement with it."""
    queries = (_OF_ORGANISATION, _OF_KNOWLEDGE_BASES, _CONTEXTS, *_BESIDE)
    chunks, stored_bytes, contexts, *rest = _numbers(folder, organisation_id, *queries)
    of_kbs, (_, context_bytes, *beside) = rest[:2], rest[2:]
    assert of_kbs == [chunks, stored_bytes - context_bytes - sum(beside)]
    return {"chunks": chunks, "bytes": stored_bytes, "contexts": contexts}


def _numbers(folder: Path, organisation_id: str, *queries: str) -> list[int]:
    """Returns what queries of one row each find, in one statement: PostgreSQL starts a process for each connection."""
    query = "SELECT * FROM " + ", ".join(f"({one}) AS q{number}" for number, one in enumerate(queries))  # noqa: S608 - those above
    if databases.current() == databases.POSTGRES:
        query = re.sub(r"length\(CAST\((\S+) AS BLOB\)\)", r"octet_length(\1)", query)
    (row,) = databases.execute(folder, query, *[organisation_id] * len(queries))
    return list(map(int, row))
