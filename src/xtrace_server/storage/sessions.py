"""Sessions of the dashboard. The database stores a hash of each token, and ends a session with its key."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from xtrace_server.storage.database import THE_SERVICE, now
from xtrace_server.storage.schema import sent_form, session

MAX_SESSIONS: Final = 100
"""The maximum number of sessions of one owner; another one ends the least recently used."""
MAX_SENT_FORMS: Final = 1000
"""The maximum number of remembered forms per session."""

_s = session.c
_f = sent_form.c
_COLUMNS: Final = (_s.hash, _s.organisation_id, _s.admin_key_hash, _s.operator_key_hash, _s.created_at, _s.used_at)


@dataclass(frozen=True, slots=True)
class Session:
    """A session as stored: never the token itself."""

    hash: str
    organisation_id: str
    """The organisation's id, or `THE_SERVICE` for the operator."""
    key_hash: str
    """The hash of the admin key or operator key with which it was opened."""
    created_at: str
    used_at: str


@dataclass(frozen=True, slots=True)
class Ends:
    """Sessions last used, or opened, before these times have ended."""

    used_before: str
    created_before: str

    def is_over(self, one: Session) -> bool:
        """Returns whether a session has ended."""
        return one.used_at < self.used_before or one.created_at < self.created_before


def _from_row(row: Sequence[Any]) -> Session:
    hash_, organisation_id, admin_key_hash, operator_key_hash, created_at, used_at = row
    return Session(hash_, organisation_id or THE_SERVICE, admin_key_hash or operator_key_hash, created_at, used_at)


def _of(organisation_id: str) -> Any:
    return _s.organisation_id.is_(None) if organisation_id == THE_SERVICE else _s.organisation_id == organisation_id


async def create(connection: AsyncConnection, session_hash: str, organisation_id: str, key_hash: str) -> None:
    """Stores a new session, and ends sessions of the same owner beyond `MAX_SESSIONS`."""
    is_operator = organisation_id == THE_SERVICE
    moment = now()
    row = {
        "hash": session_hash,
        "organisation_id": None if is_operator else organisation_id,
        "admin_key_hash": None if is_operator else key_hash,
        "operator_key_hash": key_hash if is_operator else None,
        "created_at": moment,
        "used_at": moment,
    }
    await connection.execute(insert(session).values(row))
    newest_first = select(_s.hash).where(_of(organisation_id)).order_by(_s.used_at.desc(), _s.hash)
    beyond = (await connection.execute(newest_first.offset(MAX_SESSIONS))).scalars().all()
    if beyond:
        await connection.execute(delete(session).where(_s.hash.in_(beyond)))


async def find(connection: AsyncConnection, session_hash: str) -> Session | None:
    """Returns the session, even if it has ended."""
    row = (await connection.execute(select(*_COLUMNS).where(_s.hash == session_hash))).one_or_none()
    return None if row is None else _from_row(row)


async def list_all(connection: AsyncConnection, organisation_id: str, ends: Ends) -> list[Session]:
    """Returns the active sessions of an owner, most recently used first."""
    query = select(*_COLUMNS).where(_of(organisation_id)).order_by(_s.used_at.desc(), _s.hash)
    found = [_from_row(row) for row in await connection.execute(query)]
    return [one for one in found if not ends.is_over(one)]


async def record_use(connection: AsyncConnection, session_hash: str) -> None:
    await connection.execute(update(session).where(_s.hash == session_hash).values(used_at=now()))


async def end(connection: AsyncConnection, organisation_id: str, session_hash: str) -> bool:
    """Ends a session of an owner; returns whether it existed."""
    statement = delete(session).where(_s.hash == session_hash, _of(organisation_id))
    return bool((await connection.execute(statement)).rowcount)


async def end_all(connection: AsyncConnection, organisation_id: str) -> int:
    """Ends every session of an owner; returns their number."""
    return (await connection.execute(delete(session).where(_of(organisation_id)))).rowcount


async def remove_ended(connection: AsyncConnection, ends: Ends) -> None:
    """Deletes the rows of all sessions that have ended."""
    over = (_s.used_at < ends.used_before) | (_s.created_at < ends.created_before)
    await connection.execute(delete(session).where(over))


async def add_sent_form(connection: AsyncConnection, session_hash: str, nonce: str) -> bool:
    """Remembers that a form was sent; returns False if it had been sent before, or the session is at its maximum."""
    same = (_f.session_hash == session_hash, _f.nonce == nonce)
    if (await connection.execute(select(_f.nonce).where(*same))).one_or_none() is not None:
        return False
    count = select(func.count()).where(_f.session_hash == session_hash)
    if (await connection.execute(count)).scalar_one() >= MAX_SENT_FORMS:
        return False
    await connection.execute(insert(sent_form).values(session_hash=session_hash, nonce=nonce))
    return True
