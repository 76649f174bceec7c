"""The usage of organisations by hour: sums of all server processes, kept for `KEPT_HOURS`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Table, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from xtrace_server.storage.schema import FIGURES, LATENCIES, organisation, usage_error, usage_hour

KEPT_HOURS: Final = 14 * 24

_h = usage_hour.c
_e = usage_error.c


@dataclass(frozen=True, slots=True)
class ErrorCount:
    """How often requests failed with a code, and when they last did."""

    code: str
    count: int
    last_at: str


async def there(connection: AsyncConnection, organisation_ids: set[str]) -> set[str]:
    """Returns those of at most a thousand ids whose organisations are not deleted."""
    query = select(organisation.c.id).where(
        organisation.c.id.in_(organisation_ids), organisation.c.deleted_at.is_(None)
    )
    return set((await connection.execute(query)).scalars())


async def add(connection: AsyncConnection, organisation_id: str, hour: int, counts: Mapping[str, int]) -> None:
    """Adds to the figures of an hour, by the names in `FIGURES` and `LATENCIES`."""
    mine = (_h.organisation_id == organisation_id, _h.hour == hour)
    more = {name: _h[name] + count for name, count in counts.items()}
    if not (await connection.execute(update(usage_hour).where(*mine).values(more))).rowcount:
        row = {"organisation_id": organisation_id, "hour": hour, **dict.fromkeys((*FIGURES, *LATENCIES), 0), **counts}
        await connection.execute(insert(usage_hour).values(row))


async def add_error(
    connection: AsyncConnection, organisation_id: str, hour: int, code: str, count: int, last_at: str
) -> None:
    """Adds to the number of requests that failed with a code in an hour."""
    mine = (_e.organisation_id == organisation_id, _e.hour == hour, _e.code == code)
    more = {"count": _e.count + count, "last_at": last_at}
    if not (await connection.execute(update(usage_error).where(*mine).values(more))).rowcount:
        row = {"organisation_id": organisation_id, "hour": hour, "code": code, "count": count, "last_at": last_at}
        await connection.execute(insert(usage_error).values(row))


async def remove_before(connection: AsyncConnection, hour: int) -> None:
    """Deletes the figures of earlier hours."""
    tables: tuple[Table, ...] = (usage_hour, usage_error)
    for table in tables:
        await connection.execute(delete(table).where(table.c.hour < hour))


async def since(connection: AsyncConnection, organisation_id: str, hour: int) -> dict[int, dict[str, int]]:
    """Returns the figures from an hour on, by hour, without hours that have none."""
    names = ("hour", *FIGURES, *LATENCIES)
    query = select(*[_h[name] for name in names]).where(_h.organisation_id == organisation_id, _h.hour >= hour)
    return {row[0]: dict(zip(names[1:], row[1:], strict=True)) for row in await connection.execute(query)}


async def errors_since(connection: AsyncConnection, organisation_id: str, hour: int) -> list[ErrorCount]:
    """Returns how often requests failed from an hour on, by code, most frequent first."""
    total = func.sum(_e.count)
    query = (
        select(_e.code, total, func.max(_e.last_at))
        .where(_e.organisation_id == organisation_id, _e.hour >= hour)
        .group_by(_e.code)
        .order_by(total.desc(), _e.code)
    )
    return [ErrorCount(code, int(count), last_at) for code, count, last_at in await connection.execute(query)]
