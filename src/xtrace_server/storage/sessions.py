"""Sessions of the dashboard. The database has a hash of each token, and ends a session together with its key."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from xtrace_server.storage.database import THE_SERVICE, now
from xtrace_server.storage.schema import sent_form, session

MAX_SESSIONS: Final = 100
"""Sessions of one organisation, or of the operator; a further one ends the one that was used longest ago."""
MAX_SENT_FORMS: Final = 1000
"""Forms that are remembered of one session."""

_s = session.c
_f = sent_form.c
_COLUMNS: Final = (_s.hash, _s.organisation_id, _s.admin_key_hash, _s.operator_key_hash, _s.created_at, _s.used_at)


@dataclass(frozen=True, slots=True)
class Session:
    """A session as stored: never the token itself."""

    hash: str
    organisation_id: str
    """`THE_SERVICE` for the operator's."""
    key_hash: str
    """Of the admin key or the operator key that it was opened with."""
    created_at: str
    used_at: str


@dataclass(frozen=True, slots=True)
class Ends:
    """Sessions that were last used, or were opened, before these moments have ended."""

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
    """Stores a new session; those of the same owner beyond `MAX_SESSIONS` end."""
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
    """The session, be it over or not."""
    row = (await connection.execute(select(*_COLUMNS).where(_s.hash == session_hash))).one_or_none()
    return None if row is None else _from_row(row)


async def list_all(connection: AsyncConnection, organisation_id: str, ends: Ends) -> list[Session]:
    """The sessions of an owner that are not over, the latest used first."""
    query = select(*_COLUMNS).where(_of(organisation_id)).order_by(_s.used_at.desc(), _s.hash)
    found = [_from_row(row) for row in await connection.execute(query)]
    return [one for one in found if not ends.is_over(one)]


async def record_use(connection: AsyncConnection, session_hash: str) -> None:
    await connection.execute(update(session).where(_s.hash == session_hash).values(used_at=now()))


async def end(connection: AsyncConnection, organisation_id: str, session_hash: str) -> bool:
    """Ends a session of an owner; returns whether there was one."""
    statement = delete(session).where(_s.hash == session_hash, _of(organisation_id))
    return bool((await connection.execute(statement)).rowcount)


async def end_all(connection: AsyncConnection, organisation_id: str) -> int:
    """Ends every session of an owner; returns how many there were."""
    return (await connection.execute(delete(session).where(_of(organisation_id)))).rowcount


async def remove_ended(connection: AsyncConnection, ends: Ends) -> None:
    """Deletes the rows of sessions that are over, for all keys."""
    over = (_s.used_at < ends.used_before) | (_s.created_at < ends.created_before)
    await connection.execute(delete(session).where(over))


async def add_sent_form(connection: AsyncConnection, session_hash: str, nonce: str) -> bool:
    """Remembers that a form was sent; returns whether it was not before, and the session is not at its maximum."""
    same = (_f.session_hash == session_hash, _f.nonce == nonce)
    if (await connection.execute(select(_f.nonce).where(*same))).one_or_none() is not None:
        return False
    count = select(func.count()).where(_f.session_hash == session_hash)
    if (await connection.execute(count)).scalar_one() >= MAX_SENT_FORMS:
        return False
    await connection.execute(insert(sent_form).values(session_hash=session_hash, nonce=nonce))
    return True
