"""What organisations have stored and requested, and their quotas.

Stored amounts are sums, updated in the transaction of each write: nothing has to be counted, and the second of two
concurrent writes sees what the first one has stored.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, case, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from xtrace_server.errors import OrganisationNotFound, QuotaExceeded
from xtrace_server.storage.schema import organisation, request_count

MINUTE_S: Final = 60
DAY_S: Final = 86_400

_o = organisation.c
_r = request_count.c


@dataclass(frozen=True, slots=True)
class Quotas:
    """The limits of an organisation; None for unlimited."""

    chunks: int | None = None
    bytes: int | None = None
    contexts: int | None = None
    requests_per_minute: int | None = None
    requests_per_day: int | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """What an organisation has stored.

    `bytes` covers the contents, vectors, names and metadata of its chunks, its blocks, shared indexes and contexts.
    """

    chunks: int = 0
    bytes: int = 0
    contexts: int = 0


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests with API keys in the last minute and day that had any, numbered since 1970 in UTC."""

    minute: int = 0
    in_minute: int = 0
    day: int = 0
    in_day: int = 0

    def within(self, time_s: float) -> tuple[int, int]:
        """Returns the number of requests in the minute and in the day of this time, in seconds since 1970."""
        minute, day = windows(time_s)
        return (self.in_minute if minute == self.minute else 0), (self.in_day if day == self.day else 0)


def now_s() -> float:
    """Returns the current time for counting requests, in seconds since 1970."""
    return time.time()


def windows(time_s: float) -> tuple[int, int]:
    """Returns the numbers of the minute and the day of a time, in seconds since 1970."""
    return int(time_s // MINUTE_S), int(time_s // DAY_S)


QUOTA_COLUMNS: Final = (
    _o.max_chunks,
    _o.max_bytes,
    _o.max_contexts,
    _o.max_requests_per_minute,
    _o.max_requests_per_day,
)
_STORED: Final = (_o.chunks, _o.stored_bytes, _o.contexts)
REQUEST_COLUMNS: Final = (_r.minute, _r.in_minute, _r.day, _r.in_day)
COLUMNS: Final = (*_STORED, *QUOTA_COLUMNS, *REQUEST_COLUMNS)
"""The columns of an organisation, joined with its `request_count`, if any."""


def from_row(row: Sequence[Any]) -> tuple[Stored, Quotas, Requests]:
    """Returns the usage in a row of `COLUMNS`."""
    requests = Requests() if row[8] is None else Requests(*row[8:])
    return Stored(*row[:3]), Quotas(*row[3:8]), requests


def requests_today() -> ColumnElement[int]:
    """The number of requests today, in UTC, of an organisation that is joined with its `request_count`."""
    _, day = windows(now_s())
    return case((_r.day == day, _r.in_day), else_=0)


async def check_room(
    connection: AsyncConnection, organisation_id: str, *, chunks: int = 0, stored_bytes: int = 0
) -> None:
    """Raises `QuotaExceeded` before a long write if this much more already exceeds a quota; `add` decides later.

    Locks nothing, so others may store something meanwhile.
    """
    row = (await connection.execute(select(*_STORED, *QUOTA_COLUMNS[:3]).where(_o.id == organisation_id))).one()
    more = (chunks, stored_bytes, 0)
    _check([has + added for has, added in zip(row[:3], more, strict=True)], row[3:], more)


async def add(
    connection: AsyncConnection, organisation_id: str, *, chunks: int = 0, stored_bytes: int = 0, contexts: int = 0
) -> None:
    """Adds to what an organisation has stored, or subtracts; its row stays locked until the transaction ends.

    Raises `QuotaExceeded` if an increase exceeds its quota, and `OrganisationNotFound`.
    """
    added = (chunks, stored_bytes, contexts)
    if not any(added):
        return
    changed = {column: column + more for column, more in zip(_STORED, added, strict=True) if more}
    there = update(organisation).where(_o.id == organisation_id, _o.deleted_at.is_(None))
    if not (await connection.execute(there.values(changed))).rowcount:
        raise OrganisationNotFound(organisation_id)  # deleted since the caller's key was looked up
    row = (await connection.execute(select(*_STORED, *QUOTA_COLUMNS[:3]).where(_o.id == organisation_id))).one()
    _check(row[:3], row[3:], added)


def _check(stored: Sequence[int], quotas: Sequence[int | None], added: Sequence[int]) -> None:
    """Raises `QuotaExceeded` if an addition exceeds its quota."""
    for what, has, quota, more in zip(("chunks", "bytes", "contexts"), stored, quotas, added, strict=True):
        if more > 0 and quota is not None and has > quota:
            raise QuotaExceeded.of_stored(what, quota, has - more, more)


async def set_quotas(connection: AsyncConnection, organisation_id: str, quotas: Mapping[str, int | None]) -> None:
    """Sets quotas by their names in `Quotas`; others stay, and stored data stays even if it exceeds them."""
    values = {f"max_{name}": quota for name, quota in quotas.items()}
    await connection.execute(update(organisation).where(_o.id == organisation_id).values(values))


async def add_requests(connection: AsyncConnection, organisation_id: str, more: Requests) -> Requests | None:
    """Adds requests of a minute and a day; returns their new numbers, or None for an unknown organisation."""
    values = {
        "minute": more.minute,
        "in_minute": case((_r.minute == more.minute, _r.in_minute), else_=0) + more.in_minute,
        "day": more.day,
        "in_day": case((_r.day == more.day, _r.in_day), else_=0) + more.in_day,
    }
    mine = update(request_count).where(_r.organisation_id == organisation_id)
    row = (await connection.execute(mine.values(values).returning(*REQUEST_COLUMNS))).one_or_none()
    return None if row is None else Requests(*row)


async def begin_requests(connection: AsyncConnection, organisation_id: str) -> None:
    """Creates the row that counts the requests of a new organisation."""
    values = {"organisation_id": organisation_id, "minute": 0, "in_minute": 0, "day": 0, "in_day": 0}
    await connection.execute(insert(request_count).values(values))
