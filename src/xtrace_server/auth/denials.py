"""Writes denied requests to the audit log, in the background and at a bounded rate.

A client decides how often it is denied, but must not decide how much is written. Denials for the same reason within a
minute become one entry with their count, and a process remembers a limited number of reasons. The presented key is
recorded only if it belongs to the organisation.
"""

import asyncio
import contextvars
import logging
from contextlib import suppress
from dataclasses import replace

from xtrace_server.errors import Unavailable
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
        self._half_full = asyncio.Event()

    def add(self, organisation_id: str, event: Event) -> None:
        """Remembers a denial. The first one is written at once, later ones within a minute."""
        # With the request id, every denial would be different.
        key = (organisation_id, replace(event, request_id=""))
        if key not in self._waiting and len(self._waiting) >= _MAX_WAITING:
            _log.warning("too many different denials at once: one was not recorded in the audit log")
            return
        self._waiting[key] = self._waiting.get(key, 0) + 1
        if len(self._waiting) * 2 >= _MAX_WAITING:
            self._half_full.set()
        if self._task is None or self._task.done():
            # In a separate context: the deadline of the request must not apply.
            self._task = asyncio.get_running_loop().create_task(self._write_often(), context=contextvars.Context())

    @property
    def waiting(self) -> int:
        """The number of different denials that are not yet written."""
        return len(self._waiting)

    async def close(self) -> None:
        """Writes pending denials, and stops."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.write()

    async def _write_often(self) -> None:
        while self._waiting:
            await asyncio.shield(self.write())
            # Invented organisations must not displace real ones, so they are dropped first when space runs out.
            with suppress(TimeoutError):
                await asyncio.wait_for(self._half_full.wait(), WRITTEN_EVERY_S)

    async def write(self) -> None:
        """Writes pending denials."""
        waiting, self._waiting = self._waiting, {}
        self._half_full.clear()
        if not waiting:
            return
        try:
            async with self._database.look_up() as connection:
                real = await audit.existing_organisations(connection, {of for of, _ in waiting})
            if not real:
                return
            async with self._database.write(urgent=True) as connection:
                for organisation_id in await audit.existing_organisations(connection, real):
                    counted = [(event, count) for (of, event), count in waiting.items() if of == organisation_id]
                    events = [replace(event, count=count) for event, count in counted]
                    await audit.record(connection, organisation_id, events)
        except (StorageError, Unavailable):
            _log.exception("denied requests could not be written to the audit log")
            for key, count in waiting.items():
                self._waiting[key] = self._waiting.get(key, 0) + count
