"""The answers to insertions that carried an `Idempotency-Key`, kept for 24 hours per API key."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from xtrace_server.errors import IdempotencyKeyReused
from xtrace_server.storage.database import format_time, now
from xtrace_server.storage.schema import idempotency

LIFETIME = timedelta(hours=24)

_t = idempotency.c


async def find_answer(connection: AsyncConnection, api_key_hash: str, key: str, body_hash: bytes) -> bytes | None:
    """The answer to the same request before, or None. Raises `IdempotencyKeyReused` for another body."""
    query = select(_t.body_hash, _t.answer).where(
        _t.api_key_hash == api_key_hash, _t.key == key, _t.created_at >= _oldest()
    )
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        return None
    if row.body_hash != body_hash:
        raise IdempotencyKeyReused("this Idempotency-Key was used with another body: take a new one")
    return bytes(row.answer)


async def keep_answer(
    connection: AsyncConnection, api_key_hash: str, key: str, body_hash: bytes, answer: bytes
) -> None:
    """Keeps the answer, and drops those that are too old, in the transaction of the insertion itself."""
    await connection.execute(delete(idempotency).where(_t.created_at < _oldest()))
    await connection.execute(
        insert(idempotency).values(
            api_key_hash=api_key_hash, key=key, body_hash=body_hash, answer=answer, created_at=now()
        )
    )


def _oldest() -> str:
    return format_time(datetime.now(UTC) - LIFETIME)
