"""Writes denied accesses to the audit log, beside the requests and at a bounded rate.

Whoever is denied decides how often that happens, so it must not decide how much is written: what is denied again within
a minute for the same reason is counted and written as one entry, and a process remembers a bounded number of such
reasons at a time. The keys that were presented are never written down unless they are the organisation's own.
"""

import asyncio
import contextvars
import logging
from dataclasses import replace

from xtrace_server.storage import audit
from xtrace_server.storage.audit import Event
from xtrace_server.storage.database import Database, StorageError

WRITTEN_EVERY_S = 60.0
_MAX_WAITING = 1000

_log = logging.getLogger("xtrace.audit")


class Denials:
    """The denials of a running server."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[tuple[str, Event], int] = {}
        self._task: asyncio.Task[None] | None = None

    def add(self, organisation_id: str, event: Event) -> None:
        """Remembers a denial; it is written within a minute, the first after a quiet time at once."""
        # The request id would make every denial another one.
        key = (organisation_id, replace(event, request_id=""))
        if key not in self._waiting and len(self._waiting) >= _MAX_WAITING:
            _log.warning("too many different denials at once: one is not written to the audit log")
            return
        self._waiting[key] = self._waiting.get(key, 0) + 1
        if self._task is None or self._task.done():
            # Without the context of the request: its deadline is not ours.
            self._task = asyncio.get_running_loop().create_task(self._write_often(), context=contextvars.Context())

    async def close(self) -> None:
        """Writes what is left."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.write()

    async def _write_often(self) -> None:
        while self._waiting:
            await asyncio.shield(self.write())
            await asyncio.sleep(WRITTEN_EVERY_S)

    async def write(self) -> None:
        """Writes what waits, now."""
        waiting, self._waiting = self._waiting, {}
        if not waiting:
            return
        try:
            async with self._database.write() as connection:
                for organisation_id in {organisation_id for organisation_id, _ in waiting}:
                    if await audit.organisation_exists(connection, organisation_id):
                        counted = [(event, count) for (of, event), count in waiting.items() if of == organisation_id]
                        events = [replace(event, count=count) for event, count in counted]
                        await audit.record(connection, organisation_id, events)
        except StorageError:
            _log.exception("denied accesses could not be written to the audit log")
            for key, count in waiting.items():
                self._waiting[key] = self._waiting.get(key, 0) + count
