"""Counts in memory what organisations use, and adds it to the database in the background.

No request waits for the disk, and servers that share a database add to the same rows. If a process is killed, the
counts since its last write are lost: the figures are for people, and quotas do not depend on them.
"""

import asyncio
import contextvars
import logging
import time
from bisect import bisect_right
from collections import Counter
from typing import Final

from xtrace_server.errors import Unavailable
from xtrace_server.storage import usage_hours
from xtrace_server.storage.database import Database, StorageError, now
from xtrace_server.storage.schema import LATENCIES, LATENCY_BOUNDS_MS

WRITTEN_EVERY_S: Final = 10.0
HOUR_S: Final = 3600
_AT_ONCE: Final = 500
"""The number of organisations whose figures are written in one transaction."""
_MAX_WAITING: Final = 10_000
"""The maximum number of hours of organisations that wait to be written; others are not counted."""

_log = logging.getLogger("xtrace")


class Figures:
    """The figures of a running server."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._counts: dict[tuple[str, int], Counter[str]] = {}
        self._errors: dict[tuple[str, int], dict[str, tuple[int, str]]] = {}
        self._writing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._cleaned_at_hour = 0

    def add(self, organisation_id: str, **counts: int) -> None:
        """Adds to the figures of the current hour, by their names in `FIGURES`."""
        counter = self._of_now(organisation_id)
        if counter is not None:
            counter.update(counts)

    def add_request(self, organisation_id: str, seconds: float, code: str | None, *, is_search: bool) -> None:
        """Counts a request: how long it took, and the code of its error if it failed."""
        counter = self._of_now(organisation_id)
        if counter is None:
            return
        counter["requests"] += 1
        if code is not None:
            counter["errors"] += 1
            errors = self._errors.setdefault((organisation_id, this_hour()), {})
            errors[code] = (errors.get(code, (0, ""))[0] + 1, now())
        elif is_search:
            counter["searches"] += 1
            counter[LATENCIES[bisect_right(LATENCY_BOUNDS_MS, seconds * 1000)]] += 1

    async def close(self) -> None:
        """Writes pending figures, and stops."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.write()

    async def write(self) -> None:
        """Adds pending figures to the database, each exactly once."""
        async with self._writing:
            while self._counts:
                keys = list(self._counts)[:_AT_ONCE]
                if not await self._write({key: self._counts[key].copy() for key in keys}):
                    return

    def _of_now(self, organisation_id: str) -> Counter[str] | None:
        key = (organisation_id, this_hour())
        if key not in self._counts and len(self._counts) >= _MAX_WAITING:
            return None
        if self._task is None or self._task.done():
            # In a separate context: the deadline of the request must not apply.
            self._task = asyncio.get_running_loop().create_task(self._write_often(), context=contextvars.Context())
        return self._counts.setdefault(key, Counter())

    async def _write_often(self) -> None:
        while self._counts:
            await asyncio.sleep(WRITTEN_EVERY_S)
            await asyncio.shield(self.write())

    async def _write(self, counted: dict[tuple[str, int], Counter[str]]) -> bool:
        errors = {key: dict(self._errors.get(key, {})) for key in counted}
        try:
            async with self._database.write(urgent=True) as connection:
                there = await usage_hours.there(connection, {of for of, _ in counted})
                for (of, hour), counts in sorted(counted.items()):
                    if of not in there:
                        continue
                    await usage_hours.add(connection, of, hour, counts)
                    for code, (count, last_at) in sorted(errors[of, hour].items()):
                        await usage_hours.add_error(connection, of, hour, code, count, last_at)
                if this_hour() > self._cleaned_at_hour:
                    await usage_hours.remove_before(connection, this_hour() - usage_hours.KEPT_HOURS)
        except (StorageError, Unavailable):
            _log.warning("the usage figures could not be written; this will be retried")
            return False
        # No await after the commit: written counts must not be written again.
        self._cleaned_at_hour = this_hour()
        for key, counts in counted.items():
            self._counts[key].subtract(counts)
            self._counts[key] += Counter()  # drops zeros
            if not self._counts[key]:
                del self._counts[key]
            self._forget_errors(key, errors[key])
        return True

    def _forget_errors(self, key: tuple[str, int], written: dict[str, tuple[int, str]]) -> None:
        left = self._errors.get(key, {})
        for code, (count, _) in written.items():
            more = left[code][0] - count
            left[code] = (more, left[code][1])
            if not more:
                del left[code]
        if not left:
            self._errors.pop(key, None)


def this_hour() -> int:
    """Returns the number of hours since 1970, in UTC."""
    return int(time.time() // HOUR_S)
