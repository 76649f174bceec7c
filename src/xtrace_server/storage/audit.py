"""The audit log: who changed what on the control plane, and who was denied access. It is append-only.

Database triggers prevent changes and deletions of rows, even by a bug of the service.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import exists, insert, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from xtrace_server.storage.database import THE_SERVICE, now
from xtrace_server.storage.schema import audit, organisation


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An event. `actor` is the hash of the key that was used, or another name; `subject` is the affected object."""

    action: str
    actor: str
    subject: str = ""
    detail: str = ""
    request_id: str = ""
    count: int = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the log."""

    id: int
    at: str
    event: Event


_a = audit.c


async def record(connection: AsyncConnection, organisation_id: str, events: Sequence[Event]) -> None:
    """Adds entries to the organisation's log, or to the server's with `THE_SERVICE`, in the transaction that they
    record.
    """
    moment = now()
    rows: list[dict[str, Any]] = [
        {
            "organisation_id": None if organisation_id == THE_SERVICE else organisation_id,
            "at": moment,
            "action": event.action,
            "actor": event.actor,
            "subject": event.subject,
            "detail": event.detail,
            "request_id": event.request_id,
            "count": event.count,
        }
        for event in events
    ]
    await connection.execute(insert(audit), rows)


async def newest(connection: AsyncConnection, organisation_id: str, before: int | None, limit: int) -> list[Entry]:
    """Returns the newest entries of an organisation or of `THE_SERVICE`, or those with ids below `before`.

    The newest is first.
    """
    query = select(_a.id, _a.at, _a.action, _a.actor, _a.subject, _a.detail, _a.request_id, _a.count)
    of_service = organisation_id == THE_SERVICE
    query = query.where(_a.organisation_id.is_(None) if of_service else _a.organisation_id == organisation_id)
    if before is not None:
        query = query.where(_a.id < before)
    return [
        Entry(
            id_,
            at,
            Event(action=action, actor=actor, subject=subject, detail=detail, request_id=request_id, count=count),
        )
        for id_, at, action, actor, subject, detail, request_id, count in await connection.execute(
            query.order_by(_a.id.desc()).limit(limit)
        )
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A filter of entries; empty and None fields do not restrict."""

    action: str = ""
    """The beginning of the action."""
    actor: str = ""
    """The beginning of the actor."""
    subject: str = ""
    """A part of the subject or the detail, ignoring case."""
    since: str | None = None
    until: str | None = None
    """The end of the period, exclusive."""


async def find(
    connection: AsyncConnection, organisation_id: str, wanted: Wanted, before: int | None, limit: int
) -> list[Entry]:
    """Returns the newest matching entries of an organisation, or those with ids below `before`; newest first."""
    query = select(_a.id, _a.at, _a.action, _a.actor, _a.subject, _a.detail, _a.request_id, _a.count)
    query = query.where(_a.organisation_id == organisation_id)
    if before is not None:
        query = query.where(_a.id < before)
    if wanted.action:
        query = query.where(_a.action.startswith(wanted.action, autoescape=True))
    if wanted.actor:
        query = query.where(_a.actor.startswith(wanted.actor, autoescape=True))
    if wanted.subject:
        inside = (column.icontains(wanted.subject, autoescape=True) for column in (_a.subject, _a.detail))
        query = query.where(or_(*inside))
    if wanted.since is not None:
        query = query.where(_a.at >= wanted.since)
    if wanted.until is not None:
        query = query.where(_a.at < wanted.until)
    return [
        Entry(
            id_,
            at,
            Event(action=action, actor=actor, subject=subject, detail=detail, request_id=request_id, count=count),
        )
        for id_, at, action, actor, subject, detail, request_id, count in await connection.execute(
            query.order_by(_a.id.desc()).limit(limit)
        )
    ]


async def has_log(connection: AsyncConnection, organisation_id: str) -> bool:
    """Whether an organisation with this id exists or existed."""
    return bool((await connection.execute(select(exists().where(organisation.c.id == organisation_id)))).scalar())


async def existing_organisations(connection: AsyncConnection, organisation_ids: Collection[str]) -> set[str]:
    """Returns those of at most a thousand ids whose organisations are not deleted, and so can log an event.

    The service itself has a log too.
    """
    query = select(organisation.c.id).where(
        organisation.c.id.in_(organisation_ids), organisation.c.deleted_at.is_(None)
    )
    return set((await connection.execute(query)).scalars()) | ({THE_SERVICE} & set(organisation_ids))
