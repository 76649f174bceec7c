"""Checks the shared indexes in a database: each segment against its hash, and each index against its segments."""

import hashlib
from collections.abc import Iterator
from typing import Any, Final

import sqlalchemy as sa

from xtrace_server.storage.schema import binding, index_segment, index_segment_body, knowledge_base, shared_index
from xtrace_server.storage.shared_indexes import hashes_of, index_bytes, segment_bytes

_ROWS_AT_ONCE: Final = 32
"""The shared indexes in memory together; of segments, one body is at a time."""

_i = shared_index.c
_s = index_segment.c


def shared_index_faults(connection: sa.Connection) -> Iterator[tuple[str, str]]:
    """Yields knowledge bases with shared indexes or segments that contradict the rest, each with a sentence."""
    for row in _rows(connection, index_segment):
        for fault in _of_segment(connection, row):
            yield row.kb_id, f"the segment {row.sha256.hex()} of its shared index of the kind {row.kind} {fault}"
    for row in _rows(connection, shared_index):
        for fault in _of_index(connection, row):
            yield row.kb_id, f"its shared index of the kind {row.kind} {fault}"


def _rows(connection: sa.Connection, table: sa.Table) -> Iterator[Any]:
    """Yields the rows that belong to knowledge bases, each with the id of its own."""
    last = 0
    while True:
        query = sa.select(*table.c, knowledge_base.c.id.label("kb_id")).select_from(
            table.join(binding).join(knowledge_base)
        )
        query = query.where(knowledge_base.c.deleted_at.is_(None), table.c.pk > last).order_by(table.c.pk)
        rows = connection.execute(query.limit(_ROWS_AT_ONCE)).all()
        yield from rows
        if len(rows) < _ROWS_AT_ONCE:
            return
        last = rows[-1].pk


def _of_segment(connection: sa.Connection, row: Any) -> Iterator[str]:
    query = sa.select(index_segment_body.c.body).where(index_segment_body.c.pk == row.pk)
    body = connection.execute(query).scalar()
    if body is None:
        yield "is missing"
        return
    if hashlib.sha256(body).digest() != row.sha256:
        yield "is damaged: it does not have the SHA-256 that was stored"
    if row.stored_bytes != (size := segment_bytes(len(body))):
        yield f"counts as {row.stored_bytes} bytes, expected {size}"


def _of_index(connection: sa.Connection, row: Any) -> Iterator[str]:
    listed = hashes_of(row.segments)
    mine = (_s.binding_pk == row.binding_pk, _s.kind == row.kind, _s.unlisted_since.is_(None))
    stored = set(connection.execute(sa.select(_s.sha256).where(*mine)).scalars())
    if missing := len(set(listed) - stored):
        yield f"lists {missing} segments that are not stored"
    if stray := len(stored - set(listed)):
        yield f"has {stray} segments that it does not list"
    if row.stored_bytes != (size := index_bytes(row.manifest, len(listed))):
        yield f"counts as {row.stored_bytes} bytes, expected {size}"
