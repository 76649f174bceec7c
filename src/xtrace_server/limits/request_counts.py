"""Counts the requests with an organisation's API keys per minute and per day, and enforces their quotas.

Requests are counted in memory and written to the database in the background, so that no request waits for the disk. The
database has the sums of all server processes; what another process has counted since its last write is available here
only if both use a rate store.
"""

import asyncio
import contextvars
import logging
from contextlib import suppress
from typing import Final

from xtrace_server.errors import QuotaExceeded, Unavailable
from xtrace_server.limits.rate_store import RateStore, StoreUnreachable
from xtrace_server.storage import usage
from xtrace_server.storage.database import Database, StorageError
from xtrace_server.storage.organisations import Organisation
from xtrace_server.storage.usage import Requests, windows

WRITTEN_EVERY_S: Final = 5.0

_log = logging.getLogger("xtrace.auth")


class RequestCounts:
    """The counts of a running server. Raises `QuotaExceeded` for an organisation that has used up a quota."""

    def __init__(self, database: Database, store: RateStore | None = None) -> None:
        self._database = database
        self._store = store
        self._waiting: dict[str, Requests] = {}
        self._written: dict[str, Requests] = {}
        """The database's counts at this process's last write."""
        self._writing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def count(self, organisation: Organisation, key_hash: str) -> None:
        """Counts a request with an API key of an organisation, as just read; rejected requests do not count.

        `key_hash` is the key's hash.
        """
        before = await self._count_in_store(organisation, 1)
        try:
            self._count_here(organisation, key_hash, before)
        except QuotaExceeded:
            await self._count_in_store(organisation, -1)
            raise

    async def _count_in_store(self, organisation: Organisation, more: int) -> tuple[int, int]:
        """Returns the store's counts for this minute and this day; 0 for one without a quota."""
        if self._store is None:
            return 0, 0
        minute, day = windows(usage.now_s())
        quotas, before = organisation.quotas, [0, 0]
        each = (
            (quotas.requests_per_minute, f"{organisation.id} minute {minute}", usage.MINUTE_S),
            (quotas.requests_per_day, f"{organisation.id} day {day}", usage.DAY_S),
        )
        with suppress(StoreUnreachable):
            for i, (quota, key, seconds) in enumerate(each):
                if quota is not None:
                    before[i] = await self._store.add(key, more, seconds) - more
        return before[0], before[1]

    def _count_here(self, organisation: Organisation, key_hash: str, in_store: tuple[int, int]) -> None:
        moment = usage.now_s()
        minute, day = windows(moment)
        waiting = self._waiting.get(organisation.id, Requests())
        of_minute, of_day = waiting.within(moment)
        stored = organisation.requests.within(moment)
        # A request that read the organisation before the last write has older counts than this process.
        known = self._written.get(organisation.id, Requests()).within(moment)
        quotas = organisation.quotas
        for window, quota, before in (
            ("minute", quotas.requests_per_minute, max(stored[0] + of_minute, known[0] + of_minute, in_store[0])),
            ("day", quotas.requests_per_day, max(stored[1] + of_day, known[1] + of_day, in_store[1])),
        ):
            if quota is not None and before >= quota:
                raise QuotaExceeded.of_requests(quota, window, key_hash)
        self._waiting[organisation.id] = Requests(minute, of_minute + 1, day, of_day + 1)
        if self._task is None or self._task.done():
            # In a separate context: the deadline of the request must not apply.
            self._task = asyncio.get_running_loop().create_task(self._write_often(), context=contextvars.Context())

    async def close(self) -> None:
        """Writes pending counts, and stops."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.write()

    async def _write_often(self) -> None:
        while self._waiting:
            await asyncio.sleep(WRITTEN_EVERY_S)
            await asyncio.shield(self.write())

    async def write(self) -> None:
        """Writes pending counts, each request exactly once."""
        async with self._writing:
            if self._waiting:
                await self._write(dict(self._waiting))

    async def _write(self, waiting: dict[str, Requests]) -> None:
        written: dict[str, Requests] = {}
        try:
            async with self._database.write(urgent=True) as connection:
                for organisation_id, more in waiting.items():
                    stored = await usage.add_requests(connection, organisation_id, more)
                    if stored is not None:
                        written[organisation_id] = stored
        except (StorageError, Unavailable):
            _log.warning("the request counts could not be written; this will be retried")
            return
        # No await after the commit: written counts must be recorded as written.
        self._written = written
        for organisation_id, before in waiting.items():
            left = _without(self._waiting[organisation_id], before)
            if left is None:
                del self._waiting[organisation_id]
            else:
                self._waiting[organisation_id] = left


def _without(now: Requests, before: Requests) -> Requests | None:
    """Returns what was counted since `before`; None if nothing was."""
    in_minute = now.in_minute - (before.in_minute if now.minute == before.minute else 0)
    in_day = now.in_day - (before.in_day if now.day == before.day else 0)
    return Requests(now.minute, in_minute, now.day, in_day) if in_day or in_minute else None
