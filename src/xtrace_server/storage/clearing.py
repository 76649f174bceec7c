"""Completes deletions in the background, and removes deleted and replaced data from the database's files.

Each server has one such task. Between two steps, all others can use the writer for as long as a step took.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Final

from xtrace_server.errors import StorageFull, Unavailable
from xtrace_server.storage import deletions
from xtrace_server.storage.ballast import Ballast
from xtrace_server.storage.database import Database, StorageError

TIDIED_EVERY_S: Final = 15.0
"""The maximum time for which replaced or deleted data stays in the database's log, unless an older snapshot is open."""
_AGAIN_AFTER_S: Final = 1.0

_log = logging.getLogger("xtrace")


class Clearing:
    """Runs from `start` to `close`."""

    def __init__(
        self,
        database: Database,
        ballast: Ballast,
        forget: Callable[[Iterable[int]], object],
        tidy_files: Callable[[], Awaitable[object]],
    ) -> None:
        """`forget` gets the keys of deleted bindings; another server may have deleted them. `tidy_files` removes copies
        of deleted data outside the database.
        """
        self._database = database
        self._forget = forget
        self._tidy_files = tidy_files
        self._ballast = ballast
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Continues the deletions of an earlier server."""
        self._news.set()
        self._task = asyncio.create_task(self._run())

    def tell(self) -> None:
        """Reports that there is something to delete."""
        self._news.set()

    async def close(self) -> None:
        """Stops; a running step is rolled back, and the next start continues with the rest."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        tidy_at = time.monotonic()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_AGAIN_AFTER_S):
                    await self._news.wait()
            self._news.clear()
            try:
                if await self._carry_out():
                    tidy_at = time.monotonic()
                if time.monotonic() >= tidy_at:
                    await self._tidy_files()
            except (StorageError, Unavailable, OSError) as error:
                if isinstance(error, StorageError) and isinstance(self._database.fault(error), StorageFull):
                    await asyncio.to_thread(self._ballast.give_up)
                _log.warning("a deletion failed and will be retried: %s", type(error).__name__)
            await self._database.keep_log_short()
            if time.monotonic() >= tidy_at:
                tidy_at = time.monotonic() + (TIDIED_EVERY_S if await self._database.tidy() else _AGAIN_AFTER_S)
                await asyncio.to_thread(self._ballast.make)

    async def _carry_out(self) -> bool:
        """Returns whether there was anything to do."""
        async with self._database.look_up() as connection:
            began = left = await deletions.is_left(connection)
        while left:
            left = await self._step()
        return began

    async def _step(self) -> bool:
        began = time.monotonic()
        async with self._database.write() as connection:
            gone = await deletions.carry_out(connection)
        if gone:
            self._forget(gone)
        if gone is not None:
            await self._database.keep_log_short()
            await asyncio.sleep(time.monotonic() - began)
        return gone is not None
