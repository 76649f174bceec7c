"""What tests do to a running server's SQLite database themselves: many rows, where HTTP would take minutes, and further
organisations.
"""

import asyncio
import os

from support.server_process import ServerProcess
from xtrace_core.metadata import parse_meta_data
from xtrace_server.auth.guard import ON_THE_HOST
from xtrace_server.bootstrap import credentials_of
from xtrace_server.credentials import Credentials
from xtrace_server.operations import organisations
from xtrace_server.storage import chunk_writes, contexts, knowledge_bases
from xtrace_server.storage.chunk_writes import ChunkWrite
from xtrace_server.storage.database import Database

_STEP = 20_000


def new_organisation(server: ServerProcess, name: str = "neighbour") -> Credentials:
    """Creates a further organisation, as the operator does on the host."""

    async def create() -> Credentials:
        database = _database(server)
        try:
            organisation = await organisations.create(database, ON_THE_HOST, name)
        finally:
            await database.close()
        return credentials_of(organisation, server.credentials.api_url)

    return asyncio.run(create())


def store_rows(server: ServerProcess, kb_id: str, context_id: str, count: int, width: int) -> None:
    """Stores chunks with rows of `width` random bytes, the highest of which is 0, and the smallest of contents."""
    asyncio.run(_store(server, kb_id, context_id, count, width))


async def _store(server: ServerProcess, kb_id: str, context_id: str, count: int, width: int) -> None:
    organisation = server.credentials.org_id
    database = _database(server)
    nothing = parse_meta_data({})
    try:
        for start in range(0, count, _STEP):
            number = min(_STEP, count - start)
            data = os.urandom(number * width)
            rows = [data[i * width : (i + 1) * width - 1] + b"\0" for i in range(number)]
            writes = [ChunkWrite("c", row, nothing, "", row[:14]) for row in rows]
            async with database.write() as connection:
                kb = await knowledge_bases.lock(connection, await knowledge_bases.get(connection, organisation, kb_id))
                binding = await contexts.bind(connection, kb, await contexts.get(connection, organisation, context_id))
                binding = await contexts.fix_row_bytes(connection, binding, width)
                await chunk_writes.insert_all(connection, kb, binding, writes)
    finally:
        await database.close()


def _database(server: ServerProcess) -> Database:
    return Database(f"sqlite+aiosqlite:///{server.folder.resolve() / 'xtrace.db'}")
