"""The schema of a new database, migrated to once: that takes most of the time in which a server starts first.

That a server makes it from nothing is tested where the command starts one, and in the tests of migrations.
"""

import asyncio
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from support import databases
from xtrace_server.storage.database import open_database

SERVED = "xtrace.db"
"""The file of a server, in its folder."""


def put_schema(folder: Path, name: str = SERVED) -> None:
    """Makes a database that has its tables and nothing in them, in or for a folder that is missing or empty.

    Does nothing for a folder with files: its state is what is tested.
    """
    if folder.exists() and any(folder.iterdir()):
        return
    if databases.current() == databases.POSTGRES:
        databases.postgres.fill(folder, _migrate)
        return
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(folder / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        file.write(_empty_file())


@cache
def _empty_file() -> bytes:
    with tempfile.TemporaryDirectory(prefix="xtrace-schema-") as folder:
        _migrate(f"sqlite+aiosqlite:///{folder}/{SERVED}")
        return (Path(folder) / SERVED).read_bytes()


def _migrate(url: str) -> None:
    async def migrate() -> None:
        with tempfile.TemporaryDirectory(prefix="xtrace-schema-") as folder:
            async with open_database(url, Path(folder)):
                """Its tables are there."""

    # In a thread, because the caller may have an event loop of its own.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(lambda: asyncio.run(migrate())).result()
