"""A database with one knowledge base and context, for tests below HTTP."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.databases import database_settings
from support.schema import put_schema
from support.toy_paillier import toy_key
from xtrace_core.metadata import parse_meta_data
from xtrace_core.metadata_filter import parse_filter
from xtrace_server.scope import SearchScope
from xtrace_server.storage import chunk_writes, contexts, knowledge_bases, organisations
from xtrace_server.storage.candidates import Candidates
from xtrace_server.storage.chunk_writes import ChunkWrite
from xtrace_server.storage.contexts import Binding
from xtrace_server.storage.database import Database, open_database
from xtrace_server.storage.knowledge_bases import KnowledgeBase

STORE = "test.db"


@dataclass(frozen=True)
class Store:
    """An open database, and the binding that `add` stores chunks under."""

    database: Database
    kb: KnowledgeBase
    binding: Binding

    def candidates(self, meta_filter: Any = None, id_range: tuple[int, int] | None = None) -> Candidates:
        """The chunks of the binding that the filter matches."""
        scope = SearchScope(kb_id="", context_id="", filter=parse_filter(meta_filter), id_range=id_range)
        return Candidates(self.kb, self.binding, scope)

    async def add(self, meta_data: Sequence[object], name: str = "") -> list[int]:
        """Stores a chunk for each metadata, and gives their ids."""
        writes = [ChunkWrite("content", b"row", parse_meta_data(one), name, None) for one in meta_data]
        async with self.database.write() as connection:
            kb = await knowledge_bases.lock(connection, self.kb)
            return await chunk_writes.insert_all(connection, kb, self.binding, writes)


def without_limit(size: int) -> None:
    """Lets the keys of a filter's matches take any memory (bytes)."""


def store_url(folder: Path) -> str:
    """The URL of the database that `open_store` makes in, or for, the folder."""
    return str(database_settings(folder).get("database_url") or f"sqlite+aiosqlite:///{folder}/{STORE}")


@asynccontextmanager
async def open_store(folder: Path) -> AsyncIterator[Store]:
    """A new database in the folder."""
    put_schema(folder, STORE)
    async with open_database(store_url(folder), folder) as database:
        async with database.write() as connection:
            organisation = await organisations.create(connection, "test", "hash")
            kb = await knowledge_bases.create(connection, organisation.id, "kb", "")
            await contexts.create(connection, organisation.id, "ctx", toy_key().context_data, "saver")
            context = await contexts.get(connection, organisation.id, "ctx")
            binding = await contexts.bind(connection, kb, context)
        yield Store(database, kb, binding)
