"""Deletes an organisation with all its data: for its users at once, and on the disk in steps.

Once the transaction that marks it has ended, its keys stop working and it is not found. Its data is deleted in
transactions of limited size. Its row stays, without its name, because the append-only audit log refers to it.
"""

from typing import Any, Final

from sqlalchemy import ColumnElement, Table, delete, exists, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from xtrace_server.storage.database import now
from xtrace_server.storage.schema import (
    admin_key,
    api_key,
    execution_context,
    idempotency,
    knowledge_base,
    organisation,
    request_count,
    retired_context,
    session,
    usage_error,
    usage_hour,
)
from xtrace_server.storage.sizes import STEP_BYTES, ByteLength

_ROWS: Final = 500
"""The maximum number of rows that one step deletes or marks."""
_ANSWERS: Final = 50
"""The same for answers to insertions, each of which may contain the ids of ten thousand chunks."""

_o = organisation.c
_TEXTS: Final = ("public_key", "config", "encrypted_secret", "key_provider", "wrapped_key")

IS_LEFT: Final[ColumnElement[bool]] = exists().where(_o.deleted_at.is_not(None), _o.erased_at.is_(None))
"""The condition that a deletion is incomplete."""


async def mark(connection: AsyncConnection, organisation_id: str) -> None:
    """Deletes an existing organisation, which is not found once the transaction has ended."""
    values = {"deleted_at": now(), "chunks": 0, "stored_bytes": 0, "contexts": 0}
    await connection.execute(update(organisation).where(_o.id == organisation_id).values(values))


async def carry_out(connection: AsyncConnection) -> bool:
    """Does one step, once no deleted knowledge base is left; returns whether there was anything to do."""
    gone = select(_o.id).where(_o.deleted_at.is_not(None), _o.erased_at.is_(None)).limit(1)
    gone = gone.with_for_update(skip_locked=True)
    organisation_id = (await connection.execute(gone)).scalar_one_or_none()
    if organisation_id is None:
        return False
    for step in (_mark_knowledge_bases, _delete_contexts, _delete_answers, _delete_others):
        if await step(connection, organisation_id):
            return True
    erased = {"name": "", "erased_at": now()}
    await connection.execute(update(organisation).where(_o.id == organisation_id).values(erased))
    return True


async def _mark_knowledge_bases(connection: AsyncConnection, organisation_id: str) -> bool:
    """Marks knowledge bases as deleted, so that the steps of their own deletion remove them."""
    column = knowledge_base.c
    some = select(column.pk).where(column.organisation_id == organisation_id).limit(_ROWS)
    pks = (await connection.execute(some)).scalars().all()
    if pks:
        await connection.execute(update(knowledge_base).where(column.pk.in_(pks)).values(deleted_at=now()))
    return bool(pks)


async def _delete_contexts(connection: AsyncConnection, organisation_id: str) -> bool:
    column = execution_context.c
    length = sum([ByteLength(func.coalesce(column[name], "")) for name in _TEXTS], start=ByteLength(column.id))
    some = select(column.pk, length).where(column.organisation_id == organisation_id).limit(_ROWS)
    pks: list[int] = []
    taken = 0
    for pk, size in await connection.execute(some):
        if pks and taken + size > STEP_BYTES:
            break
        pks.append(pk)
        taken += size
    if pks:
        await connection.execute(delete(execution_context).where(column.pk.in_(pks)))
    return bool(pks)


async def _delete_answers(connection: AsyncConnection, organisation_id: str) -> bool:
    """Deletes stored answers to insertions with one of its API keys."""
    column = idempotency.c
    keys = select(api_key.c.hash).where(api_key.c.organisation_id == organisation_id)
    some = select(column.api_key_hash, column.key).where(column.api_key_hash.in_(keys)).limit(_ANSWERS)
    found = (await connection.execute(some)).all()
    if not found:
        return False
    of_one = [key for api_key_hash, key in found if api_key_hash == found[0].api_key_hash]
    mine = (column.api_key_hash == found[0].api_key_hash, column.key.in_(of_one))
    await connection.execute(delete(idempotency).where(*mine))
    return True


async def _delete_others(connection: AsyncConnection, organisation_id: str) -> bool:
    keyed: tuple[tuple[Table, ColumnElement[Any]], ...] = (
        (retired_context, retired_context.c.context_id),
        (session, session.c.hash),
        (api_key, api_key.c.hash),
        (admin_key, admin_key.c.hash),
        (request_count, request_count.c.organisation_id),
        (usage_hour, usage_hour.c.hour),
        (usage_error, usage_error.c.hour),
    )
    for table, key in keyed:
        owned = table.c.organisation_id == organisation_id
        found = (await connection.execute(select(key).where(owned).limit(_ROWS))).scalars().all()
        if found:
            await connection.execute(delete(table).where(owned, key.in_(found)))
            return True
    return False
