"""Shared indexes: sealed copies of local indexes, which clients leave for each other. The service cannot read them.

A binding has at most one of each kind: a manifest, and a list of segments, which are stored one by one before it. Every
write is a transaction on the locked knowledge base. What is removed loses its binding, so it is gone for everyone at
once; `deletions.carry_out` deletes the rows.
"""

import secrets
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Table, exists, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from xtrace_core.wire import MAX_INDEX_VERSION
from xtrace_server.errors import OrganisationNotFound, SharedIndexOutdated
from xtrace_server.storage import usage
from xtrace_server.storage.database import format_time, now
from xtrace_server.storage.knowledge_bases import NOT_DELETED, KnowledgeBase
from xtrace_server.storage.schema import binding, index_segment, index_segment_body, knowledge_base, shared_index
from xtrace_server.storage.steps import PARAMETERS, steps

LIFETIME: Final = timedelta(hours=6)
"""How long a segment is kept that no shared index lists."""
PARTS: Final[Sequence[Table]] = (shared_index, index_segment)
"""The tables whose rows belong to a binding, and count as stored while they do."""
_ROW_BYTES: Final = 256
"""The approximate bytes of a row beside its large values."""
_HASH_BYTES: Final = 32

_i = shared_index.c
_s = index_segment.c


@dataclass(frozen=True, slots=True)
class Segment:
    """A stored segment: the SHA-256 of its bytes, and their number."""

    sha256: bytes
    size: int


@dataclass(frozen=True, slots=True)
class SharedIndex:
    """A stored shared index."""

    version: int
    manifest: bytes
    segments: list[Segment]


@dataclass(frozen=True, slots=True)
class IndexWrite:
    """A shared index to store if the stored one has the version `replaces`, 0 for none."""

    kind: str
    replaces: int
    manifest: bytes
    segments: Sequence[bytes]
    """The SHA-256 of each, all different."""


def index_bytes(manifest: bytes, segments: int) -> int:
    """Returns the bytes that usage counts for a shared index, beside its segments."""
    return _ROW_BYTES + len(manifest) + _HASH_BYTES * segments


def segment_bytes(size: int) -> int:
    """Returns the bytes that usage counts for a segment of this size."""
    return _ROW_BYTES + size


def hashes_of(segments: bytes) -> list[bytes]:
    """Returns the hashes in the column `segments`, in order."""
    return [segments[at : at + _HASH_BYTES] for at in range(0, len(segments), _HASH_BYTES)]


async def find(connection: AsyncConnection, binding_pk: int, kind: str) -> SharedIndex | None:
    """Returns the shared index of this kind, if any."""
    query = select(_i.pk, _i.manifest, _i.segments).where(_i.binding_pk == binding_pk, _i.kind == kind)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        return None
    listed = select(_s.sha256, _s.stored_bytes).where(*_of(binding_pk, kind), _s.unlisted_since.is_(None))
    sizes = {sha256: stored - _ROW_BYTES for sha256, stored in await connection.execute(listed)}
    return SharedIndex(row.pk, row.manifest, [Segment(one, sizes[one]) for one in hashes_of(row.segments)])


async def segment_size(connection: AsyncConnection, binding_pk: int, kind: str, sha256: bytes) -> int | None:
    """Returns the number of bytes of a segment; None if it is not stored."""
    query = select(_s.stored_bytes).where(*_of(binding_pk, kind), _s.sha256 == sha256)
    stored: int | None = (await connection.execute(query)).scalar_one_or_none()
    return None if stored is None else stored - _ROW_BYTES


async def read_segment(connection: AsyncConnection, binding_pk: int, kind: str, sha256: bytes) -> bytes | None:
    """Returns the bytes of a segment; None if it is not stored."""
    query = select(index_segment_body.c.body).join(index_segment).where(*_of(binding_pk, kind), _s.sha256 == sha256)
    found: bytes | None = (await connection.execute(query)).scalar_one_or_none()
    return found


async def add_segment(
    connection: AsyncConnection, kb: KnowledgeBase, binding_pk: int, kind: str, sha256: bytes, body: bytes
) -> None:
    """Stores a segment. One that is stored and not listed is kept for another `LIFETIME`. Raises `QuotaExceeded`."""
    mine = (*_of(binding_pk, kind), _s.sha256 == sha256)
    if (await connection.execute(select(exists().where(*mine)))).scalar():
        again = update(index_segment).where(*mine, _s.unlisted_since.is_not(None))
        await connection.execute(again.values(unlisted_since=now()))
        return
    stored_bytes = segment_bytes(len(body))
    await usage.add(connection, kb.organisation_id, stored_bytes=stored_bytes)
    values = {
        "binding_pk": binding_pk,
        "kind": kind,
        "sha256": sha256,
        "stored_bytes": stored_bytes,
        "unlisted_since": now(),
    }
    pk = (await connection.execute(insert(index_segment).values(values).returning(_s.pk))).scalar_one()
    await connection.execute(insert(index_segment_body).values(pk=pk, body=body))


async def put(connection: AsyncConnection, kb: KnowledgeBase, binding_pk: int, write: IndexWrite) -> int:
    """Stores a shared index instead of the one that it replaces; returns its version. The same one again keeps its own.

    Raises `SharedIndexOutdated` and `QuotaExceeded`.
    """
    stored = await find(connection, binding_pk, write.kind)
    listed = [] if stored is None else [one.sha256 for one in stored.segments]
    if stored is not None and stored.manifest == write.manifest and listed == list(write.segments):
        return stored.version
    version = 0 if stored is None else stored.version
    if version != write.replaces:
        raise SharedIndexOutdated.of_version(version, write.replaces)
    await _list(connection, binding_pk, write)
    freed = await _detach(connection, shared_index, [_i.pk == version])
    for step in steps(set(listed).difference(write.segments)):
        freed += await _detach(connection, index_segment, [*_of(binding_pk, write.kind), _s.sha256.in_(step)])
    stored_bytes = index_bytes(write.manifest, len(write.segments))
    await usage.add(connection, kb.organisation_id, stored_bytes=stored_bytes - freed)
    new = await _new_version(connection)
    values = {
        "pk": new,
        "binding_pk": binding_pk,
        "kind": write.kind,
        "stored_bytes": stored_bytes,
        "segments": b"".join(write.segments),
        "manifest": write.manifest,
    }
    await connection.execute(insert(shared_index).values(values))
    return new


async def remove(
    connection: AsyncConnection, organisation_id: str, binding_pks: Collection[int], kind: str | None = None
) -> None:
    """Removes shared indexes of bindings with all segments, also unlisted ones: those of a kind, or all."""
    freed = 0
    for step in steps(binding_pks):
        for table in PARTS:
            conditions = [table.c.binding_pk.in_(step), *([] if kind is None else [table.c.kind == kind])]
            freed += await _detach(connection, table, conditions)
    await usage.add(connection, organisation_id, stored_bytes=-freed)


def is_left() -> Sequence[ColumnElement[bool]]:
    """Returns conditions of which one is true if something was removed whose rows exist, or a segment has expired."""
    return (*[exists().where(table.c.binding_pk.is_(None)) for table in PARTS], exists().where(_expired()))


async def expire(connection: AsyncConnection) -> bool:
    """Removes segments of one knowledge base that have been unlisted for too long; returns whether there were any."""
    expired = select(binding.c.kb_pk).join_from(index_segment, binding).where(_expired()).limit(PARAMETERS)
    kb = select(knowledge_base.c.pk, knowledge_base.c.organisation_id).where(
        knowledge_base.c.pk.in_(expired), NOT_DELETED
    )
    locked = (await connection.execute(kb.limit(1).with_for_update(skip_locked=True))).one_or_none()
    if locked is None:
        return False
    bound = select(binding.c.pk).where(binding.c.kb_pk == locked.pk)
    some = select(_s.pk).where(_expired(), _s.binding_pk.in_(bound)).limit(PARAMETERS)
    pks = (await connection.execute(some)).scalars().all()
    freed = await _detach(connection, index_segment, [_s.pk.in_(pks)])
    with suppress(OrganisationNotFound):  # it was deleted, and counts nothing any longer
        await usage.add(connection, locked.organisation_id, stored_bytes=-freed)
    return bool(pks)


def _of(binding_pk: int, kind: str) -> tuple[ColumnElement[bool], ...]:
    return _s.binding_pk == binding_pk, _s.kind == kind


def _expired() -> ColumnElement[bool]:
    return _s.unlisted_since < format_time(datetime.now(UTC) - LIFETIME)


async def _list(connection: AsyncConnection, binding_pk: int, write: IndexWrite) -> None:
    """Marks the segments as listed. Raises `SharedIndexOutdated` if one is not stored."""
    for step in steps(write.segments):
        mine = (*_of(binding_pk, write.kind), _s.sha256.in_(step))
        known = set((await connection.execute(select(_s.sha256).where(*mine))).scalars())
        missing = next((one for one in step if one not in known), None)
        if missing is not None:
            raise SharedIndexOutdated.of_segment(missing.hex())
        fresh = update(index_segment).where(*mine, _s.unlisted_since.is_not(None))
        await connection.execute(fresh.values(unlisted_since=None))


async def _detach(connection: AsyncConnection, table: Table, conditions: Sequence[ColumnElement[Any]]) -> int:
    """Takes rows from their binding; returns the bytes that counted for them."""
    total = select(func.coalesce(func.sum(table.c.stored_bytes), 0)).where(*conditions)
    freed = int((await connection.execute(total)).scalar_one())
    await connection.execute(update(table).where(*conditions).values(binding_pk=None))
    return freed


async def _new_version(connection: AsyncConnection) -> int:
    """Returns a number that no shared index has. A random one never comes back, even after a restore."""
    while True:
        version = 1 + secrets.randbelow(MAX_INDEX_VERSION)
        if not (await connection.execute(select(exists().where(_i.pk == version)))).scalar():
            return version
