"""Denied requests reach the audit log of their organisation, whatever else is denied at the same time."""

import asyncio
from pathlib import Path

from xtrace_server.auth.denials import Denials
from xtrace_server.auth.guard import ON_THE_HOST
from xtrace_server.operations import organisations
from xtrace_server.storage import audit
from xtrace_server.storage.audit import Event
from xtrace_server.storage.database import open_database
from xtrace_server.storage.dialects import default_url

EVENT = Event(action="denied.unauthenticated", actor="unknown", detail="GET /v1/chunk/{org}")


async def test_made_up_organisations_do_not_keep_real_denials_out(tmp_path: Path) -> None:
    async with open_database(default_url(tmp_path), tmp_path) as database:
        real = (await organisations.create(database, ON_THE_HOST, "real")).organisation.id
        denials = Denials(database)
        for round_ in range(3):
            for i in range(999):
                denials.add(f"made up {round_} {i}", EVENT)
            async with asyncio.timeout(30):
                while denials.waiting > 500:  # noqa: ASYNC110 - they go at once, not after a minute; nobody is told
                    await asyncio.sleep(0.001)
        denials.add(real, EVENT)
        await denials.close()
        async with database.look_up() as connection:
            (entry,) = [one for one in await audit.newest(connection, real, None, 10) if "denied" in one.event.action]
        assert (entry.event.action, entry.event.count) == (EVENT.action, 1)
