"""Knowledge bases: their rows in the control plane, and what every write of chunks changes in them."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from sqlalchemy import ColumnElement, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from xtrace_server.errors import KnowledgeBaseNotFound, Unavailable
from xtrace_server.storage import usage
from xtrace_server.storage.database import now
from xtrace_server.storage.keyset import SortedList, named
from xtrace_server.storage.schema import (
    MAX_CHUNK_ID,
    MAX_KNOWLEDGE_BASE_PK,
    chunk_pk,
    knowledge_base,
)


@dataclass(frozen=True, slots=True)
class KnowledgeBase:
    """A knowledge base as it was read."""

    pk: int
    id: str
    name: str
    description: str
    number_of_vectors: int
    next_chunk_id: int
    revision: int
    removal_revision: int
    created_at: str
    updated_at: str
    deleted_at: str | None = None
    """When it was deleted, if its chunks are not yet deleted."""
    organisation_id: str = ""
    stored_bytes: int = 0
    """The bytes of its chunks."""

    @property
    def first_pk(self) -> int:
        """The smallest possible key of its chunks."""
        return chunk_pk(self.pk, 0)

    @property
    def last_pk(self) -> int:
        """The greatest possible key of its chunks."""
        return chunk_pk(self.pk, MAX_CHUNK_ID)


SortKey: TypeAlias = Literal["name", "number_of_vectors", "stored_bytes", "created_at", "updated_at"]
"""The orders in which knowledge bases can be listed."""

_ID_CHARACTERS = 12
_ID_ALPHABET = "23456789abcdefghijkmnpqrstuvwxyz"  # without 0, 1, l and o, which people mistake for each other

_t = knowledge_base.c
COLUMNS = (
    _t.pk,
    _t.id,
    _t.name,
    _t.description,
    _t.number_of_vectors,
    _t.next_chunk_id,
    _t.revision,
    _t.removal_revision,
    _t.created_at,
    _t.updated_at,
    _t.deleted_at,
    _t.organisation_id,
    _t.stored_bytes,
)
NOT_DELETED: Final[ColumnElement[bool]] = _t.deleted_at.is_(None)
"""The condition for knowledge bases that are not deleted."""


def from_row(row: Sequence[Any]) -> KnowledgeBase:
    """Returns the knowledge base in a row of `COLUMNS`."""
    return KnowledgeBase(*row)


async def create(connection: AsyncConnection, organisation_id: str, name: str, description: str) -> KnowledgeBase:
    """Creates an empty knowledge base."""
    kb_id, moment = await _new_id(connection), now()
    values: dict[str, Any] = {
        "id": kb_id,
        "organisation_id": organisation_id,
        "name": name,
        "description": description,
        "number_of_vectors": 0,
        "stored_bytes": 0,
        "next_chunk_id": 1,
        "revision": 0,
        "removal_revision": 0,
        "created_at": moment,
        "updated_at": moment,
    }
    await connection.execute(insert(knowledge_base).values(values))
    created = await get(connection, organisation_id, kb_id)
    if created.pk > MAX_KNOWLEDGE_BASE_PK:
        raise Unavailable("the database has no more numbers for knowledge bases")
    return created


async def _new_id(connection: AsyncConnection) -> str:
    """Returns an id that no knowledge base of any organisation has."""
    while True:
        kb_id = "".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID_CHARACTERS))
        if (await connection.execute(select(_t.pk).where(_t.id == kb_id))).one_or_none() is None:
            return kb_id


async def list_all(connection: AsyncConnection, organisation_id: str, *, deleting: bool = False) -> list[KnowledgeBase]:
    """Returns the organisation's knowledge bases in order of creation; `deleting` adds those being deleted."""
    query = select(*COLUMNS).where(_t.organisation_id == organisation_id).order_by(_t.pk)
    if not deleting:
        query = query.where(NOT_DELETED)
    return [from_row(row) for row in await connection.execute(query)]


def listed(
    organisation_id: str, *, find: str = "", sort_by: SortKey = "updated_at", deleting: bool = True
) -> SortedList[KnowledgeBase]:
    """The list of an organisation's knowledge bases; `deleting` adds those that are being deleted.

    `find` is a part of the name, or the beginning of the ID; empty for all.
    """
    return SortedList(
        columns=COLUMNS,
        make=from_row,
        table=knowledge_base,
        owned=[_t.organisation_id == organisation_id],
        wanted=[*named(_t.name, _t.id, find), *([] if deleting else [NOT_DELETED])],
        id=_t.id,
        key=_t[sort_by],
        pk=_t.pk,
    )


async def rename(connection: AsyncConnection, kb: KnowledgeBase, name: str, description: str) -> None:
    """Changes a knowledge base's name and description; the id stays."""
    await connection.execute(update(knowledge_base).where(_t.pk == kb.pk).values(name=name, description=description))


async def get(connection: AsyncConnection, organisation_id: str, kb_id: str) -> KnowledgeBase:
    """Returns the knowledge base. Raises `KnowledgeBaseNotFound`, also for another organisation's."""
    query = select(*COLUMNS).where(_t.id == kb_id, _t.organisation_id == organisation_id, NOT_DELETED)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise KnowledgeBaseNotFound(kb_id)
    return from_row(row)


async def lock(connection: AsyncConnection, kb: KnowledgeBase) -> KnowledgeBase:
    """Returns the current knowledge base, locked until the end of the writing transaction."""
    query = select(*COLUMNS).where(_t.pk == kb.pk, NOT_DELETED).with_for_update()
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise KnowledgeBaseNotFound(kb.id)
    return from_row(row)


async def record_write(
    connection: AsyncConnection,
    kb: KnowledgeBase,
    *,
    inserted: int = 0,
    removed: int = 0,
    added_bytes: int = 0,
    left_a_binding: bool = False,
) -> None:
    """Records what a transaction changes in the chunks of a locked knowledge base; `added_bytes` may be negative.

    Chunks that were written carry the revision `kb.revision + 1`. Raises `QuotaExceeded`.
    """
    await usage.add(connection, kb.organisation_id, chunks=inserted - removed, stored_bytes=added_bytes)
    revision = kb.revision + 1
    values: dict[str, Any] = {
        "updated_at": now(),
        "stored_bytes": kb.stored_bytes + added_bytes,
        "revision": revision,
    }
    if inserted or removed:
        values["number_of_vectors"] = kb.number_of_vectors + inserted - removed
        values["next_chunk_id"] = kb.next_chunk_id + inserted
    if removed or left_a_binding:
        values["removal_revision"] = revision
    await connection.execute(update(knowledge_base).where(_t.pk == kb.pk).values(values))


async def raise_revision(connection: AsyncConnection, kb: KnowledgeBase) -> None:
    """Records that something about a locked knowledge base has changed, but none of its chunks."""
    await connection.execute(update(knowledge_base).where(_t.pk == kb.pk).values(revision=kb.revision + 1))
