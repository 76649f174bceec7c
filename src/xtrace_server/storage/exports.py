"""Exports one knowledge base to an archive: its chunks, and their contexts."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from xtrace_server.archive.manifest import EXPORT
from xtrace_server.errors import KnowledgeBaseNotFound
from xtrace_server.storage.archiving import Archived, archived, dump, snapshot_to, tables_of
from xtrace_server.storage.dialects import DatabaseUnusable, Dialect
from xtrace_server.storage.migrating import is_current
from xtrace_server.storage.schema import MAX_CHUNK_ID, chunk_pk

NOT_EXPORTED: Final[Collection[str]] = (
    "organisation",
    "request_count",
    "usage_hour",
    "usage_error",
    "admin_key",
    "operator_key",
    "api_key",
    "permission",
    "idempotency",
    "audit",
    "deleted_chunk",
)
"""Excluded tables: those of the organisation and its keys, and deleted data whose rows still exist."""

_BLANK: Final[Mapping[str, sa.ColumnElement[Any]]] = {
    "organisation_id": sa.literal("", sa.Text()),
    "saved_by": sa.null(),
}
"""Columns that reveal something about the organisation, and their replacements in an export."""


def export(database: Dialect, kb_id: str, file: Path) -> Archived:
    """Writes a snapshot of a knowledge base to a new archive; a server may be running.

    Blocks. Raises `KnowledgeBaseNotFound` and what `archiving.back_up` raises.
    """
    with snapshot_to(database, file) as (connection, opened):
        if not is_current(connection):
            raise DatabaseUnusable(
                "the database has the schema of another version: start the server once to migrate it"
            )
        tables = tables_of(connection)
        kb = tables["knowledge_base"].c
        query = sa.select(kb.pk, kb.organisation_id).where(kb.id == kb_id, kb.deleted_at.is_(None))
        found = connection.execute(query).one_or_none()
        if found is None:
            raise KnowledgeBaseNotFound(kb_id)
        conditions = _conditions(tables, *found)
        queries = {
            table: archived(table, _BLANK).where(conditions[name])
            for name, table in tables.items()
            if name in conditions
        }
        return dump(connection, opened, EXPORT, queries, {})


def _conditions(tables: Mapping[str, sa.Table], kb_pk: int, organisation_id: str) -> dict[str, sa.ColumnElement[bool]]:
    """Returns a query for each table that selects the knowledge base's rows."""
    columns = {name: table.c for name, table in tables.items()}
    binding, context, retired = columns["binding"], columns["execution_context"], columns["retired_context"]
    bound = context.pk.in_(sa.select(binding.context_pk).where(binding.kb_pk == kb_pk))
    deleted = sa.select(columns["deleted_chunk"].pk)

    def of_chunks(key: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
        return key.between(chunk_pk(kb_pk, 0), chunk_pk(kb_pk, MAX_CHUNK_ID)) & key.not_in(deleted)

    return {
        "knowledge_base": columns["knowledge_base"].pk == kb_pk,
        "execution_context": bound,
        "retired_context": (retired.organisation_id == organisation_id)
        & retired.context_id.in_(sa.select(context.id).where(bound)),
        # Without a context, only deleted chunks exist.
        "binding": (binding.kb_pk == kb_pk) & binding.context_pk.is_not(None),
        "chunk": of_chunks(columns["chunk"].pk),
        "content": of_chunks(columns["content"].pk),
        "ciphertext": of_chunks(columns["ciphertext"].pk),
        "facet": of_chunks(columns["facet"].chunk_pk),
    }
