"""Checks what a database stores against itself, while servers may run: as of one snapshot, in little memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import sqlalchemy as sa

from xtrace_server.storage.archiving import check_version
from xtrace_server.storage.block_integrity import block_faults, stray_faults
from xtrace_server.storage.deletions import NOT_DELETED
from xtrace_server.storage.dialects import DatabaseUnusable, Dialect
from xtrace_server.storage.migrating import is_current, known_versions
from xtrace_server.storage.schema import binding, block, chunk, execution_context, knowledge_base, organisation
from xtrace_server.storage.shared_index_integrity import shared_index_faults
from xtrace_server.storage.shared_indexes import PARTS
from xtrace_server.storage.sizes import STORED_BYTES, ByteLength

MAX_FAULTS: Final = 1000
"""The most faults that are listed."""

_kb = knowledge_base.c
_o = organisation.c
_x = execution_context.c
_CONTEXT_BYTES: Final = sum(
    [
        ByteLength(sa.func.coalesce(column, ""))
        for column in (
            *(_x.id, _x.type, _x.public_key, _x.config, _x.name),
            *(_x.encrypted_secret, _x.key_provider, _x.wrapped_key),
        )
    ],
    start=sa.literal(0),
)


@dataclass(frozen=True, slots=True)
class Fault:
    """Something in the database that contradicts the rest."""

    fault: str
    """A sentence."""
    organisation_id: str | None = None
    kb_id: str | None = None
    block_id: int | None = None


@dataclass(slots=True)
class Checked:
    """What was checked, and found."""

    knowledge_bases: int = 0
    chunks: int = 0
    blocks: int = 0
    faults: list[Fault] = field(default_factory=list)
    """At most `MAX_FAULTS`."""
    more: int = 0
    """The number of faults beyond those."""

    def add(self, faults: Iterator[Fault]) -> None:
        """Adds faults to the list, or only counts them."""
        for one in faults:
            if len(self.faults) < MAX_FAULTS:
                self.faults.append(one)
            else:
                self.more += 1


def check(database: Dialect) -> Checked:
    """Checks the pages of a database if it is a file, its blocks, its shared indexes and its sums. Changes nothing.

    Blocks.

    Memory does not grow with the database. Raises `DatabaseUnusable` for a database that cannot be read, and
    `StorageError`.
    """
    database.checked_versions(known_versions(), whole=True)
    with database.snapshot() as connection:
        check_version(connection)
        if not is_current(connection):
            raise DatabaseUnusable(
                "the database has the schema of an older version: check it after `xtrace serve` has migrated it"
            )
        done = Checked()
        done.add(_of_blocks(connection, done))
        done.add(Fault(sentence, kb_id=kb_id) for kb_id, sentence in stray_faults(connection))
        done.add(Fault(sentence, kb_id=kb_id) for kb_id, sentence in shared_index_faults(connection))
        done.add(_of_knowledge_bases(connection, done))
        done.add(_of_organisations(connection))
    return done


def _of_blocks(connection: sa.Connection, done: Checked) -> Iterator[Fault]:
    for kb_id, block_id, sentences in block_faults(connection):
        done.blocks += 1
        for sentence in sentences:
            yield Fault(sentence, kb_id=kb_id, block_id=block_id)


def _of_knowledge_bases(connection: sa.Connection, done: Checked) -> Iterator[Fault]:
    """Compares the sums of each knowledge base with its chunks."""
    kbs = sa.select(_kb.pk, _kb.id, _kb.number_of_vectors, _kb.stored_bytes).where(_kb.deleted_at.is_(None))
    for pk, kb_id, chunks, stored_bytes in connection.execute(kbs).all():
        counted = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(STORED_BYTES), 0))
        query = counted.select_from(chunk.join(binding)).where(binding.c.kb_pk == pk, NOT_DELETED)
        found_chunks, found_bytes = connection.execute(query).one()
        done.knowledge_bases += 1
        done.chunks += found_chunks
        if (chunks, stored_bytes) != (found_chunks, found_bytes):
            yield Fault(
                f"it counts {chunks} chunks with {stored_bytes} bytes, expected {found_chunks} with {found_bytes}",
                kb_id=kb_id,
            )


def _of_organisations(connection: sa.Connection) -> Iterator[Fault]:
    """Compares the sums of each organisation with those of its knowledge bases, blocks, shared indexes and contexts."""
    for org_id, chunks, stored_bytes, contexts in connection.execute(
        sa.select(_o.id, _o.chunks, _o.stored_bytes, _o.contexts).where(_o.deleted_at.is_(None))
    ).all():
        there = (_kb.organisation_id == org_id, _kb.deleted_at.is_(None))
        of_kbs = sa.select(_total(_kb.number_of_vectors), _total(_kb.stored_bytes)).where(*there)
        of_contexts = sa.select(sa.func.count(), _total(_CONTEXT_BYTES)).where(_x.organisation_id == org_id)
        beside = sum(_bytes_in(connection, table, there) for table in (block, *PARTS))
        found_chunks, kb_bytes = connection.execute(of_kbs).one()
        found_contexts, context_bytes = connection.execute(of_contexts).one()
        found = (found_chunks, kb_bytes + context_bytes + beside, found_contexts)
        if (chunks, stored_bytes, contexts) != found:
            yield Fault(
                f"it counts {chunks} chunks, {stored_bytes} bytes and {contexts} contexts, expected {found[0]}, "
                f"{found[1]} and {found[2]}",
                organisation_id=org_id,
            )


def _bytes_in(connection: sa.Connection, table: sa.Table, there: Sequence[sa.ColumnElement[bool]]) -> int:
    """Returns the bytes that count for the rows of a table in knowledge bases; those of dead blocks do not."""
    query = sa.select(_total(table.c.stored_bytes)).select_from(table.join(binding).join(knowledge_base)).where(*there)
    if table is block:
        query = query.where(block.c.live_count > 0)
    return int(connection.execute(query).scalar_one())


def _total(column: sa.ColumnElement[int]) -> sa.ColumnElement[int]:
    return sa.func.coalesce(sa.func.sum(column), 0)
