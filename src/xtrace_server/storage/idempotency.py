"""The answers to insertions that carried an `Idempotency-Key`, kept for 24 hours per API key."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from xtrace_server.errors import IdempotencyKeyReused
from xtrace_server.storage.database import format_time, now
from xtrace_server.storage.schema import idempotency

LIFETIME = timedelta(hours=24)

_t = idempotency.c


@dataclass(frozen=True, slots=True)
class RequestKey:
    """Identifies a request: the API key, its `Idempotency-Key`, and a hash of its body."""

    api_key_hash: str
    key: str
    body_hash: bytes


async def find_answer(connection: AsyncConnection, request: RequestKey) -> bytes | None:
    """Returns the earlier answer to the same request, or None. Raises `IdempotencyKeyReused` for another body."""
    query = select(_t.body_hash, _t.answer).where(
        _t.api_key_hash == request.api_key_hash, _t.key == request.key, _t.created_at >= _oldest()
    )
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        return None
    if row.body_hash != request.body_hash:
        raise IdempotencyKeyReused("this Idempotency-Key was used with a different body: use a new one")
    return bytes(row.answer)


async def keep_answer(connection: AsyncConnection, request: RequestKey, answer: bytes) -> None:
    """Stores the answer, and deletes expired ones, in the transaction of the insertion itself."""
    await connection.execute(delete(idempotency).where(_t.created_at < _oldest()))
    await connection.execute(
        insert(idempotency).values(
            api_key_hash=request.api_key_hash,
            key=request.key,
            body_hash=request.body_hash,
            answer=answer,
            created_at=now(),
        )
    )


def _oldest() -> str:
    return format_time(datetime.now(UTC) - LIFETIME)
