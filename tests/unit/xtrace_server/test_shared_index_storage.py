"""Shared indexes in the database: what expiry, deletions and archives make of them, and what their statements cost."""

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import func, select

from support.database import Store, open_store, store_url
from unit.xtrace_server.test_query_plans import explained
from xtrace_server.archive.reading import ArchiveReader
from xtrace_server.errors import SharedIndexOutdated
from xtrace_server.storage import contexts, deletions, knowledge_bases, shared_indexes
from xtrace_server.storage.archiving import back_up, restore
from xtrace_server.storage.copies import copy
from xtrace_server.storage.database import open_database
from xtrace_server.storage.dialects import dialect_of
from xtrace_server.storage.exports import export
from xtrace_server.storage.schema import index_segment, index_segment_body, organisation, shared_index
from xtrace_server.storage.shared_indexes import IndexWrite

POSTGRES_BY_DEFAULT = True
pytestmark = pytest.mark.usefixtures("database")

TABLES = (shared_index, index_segment, index_segment_body)


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(tmp_path / "here") as store:
        yield store


def digest(segment: bytes) -> bytes:
    return sha256(segment).digest()


async def added(store: Store, *segments: bytes, kind: str = "records") -> None:
    for one in segments:
        async with store.database.write() as connection:
            kb = await knowledge_bases.lock(connection, store.kb)
            await shared_indexes.add_segment(connection, kb, store.binding.pk, kind, digest(one), one)


async def put(store: Store, replaces: int, segments: Sequence[bytes], kind: str = "records") -> int:
    write = IndexWrite(kind=kind, replaces=replaces, manifest=b"m", segments=[digest(one) for one in segments])
    async with store.database.write() as connection:
        kb = await knowledge_bases.lock(connection, store.kb)
        return await shared_indexes.put(connection, kb, store.binding.pk, write)


async def counts(store: Store) -> list[int]:
    """The rows of each table, also of what is removed."""
    async with store.database.look_up() as connection:
        counted = [select(func.count()).select_from(table).scalar_subquery() for table in TABLES]
        return list((await connection.execute(select(*counted))).one())


async def stored_bytes(store: Store) -> int:
    async with store.database.look_up() as connection:
        return int((await connection.execute(select(organisation.c.stored_bytes))).scalar_one())


async def is_left(store: Store) -> bool:
    async with store.database.look_up() as connection:
        return await deletions.is_left(connection)


async def carried_out(store: Store) -> int:
    """Carries out all deletions, and returns the number of steps."""
    for steps in range(1000):
        async with store.database.write() as connection:
            if await deletions.carry_out(connection) is None:
                return steps
    raise AssertionError("it does not end")


async def test_what_was_replaced_is_deleted_in_bounded_steps(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deletions, "_LARGE_ROWS", 2)
    before = await stored_bytes(store)
    segments = [f"segment {i}".encode() for i in range(7)]
    await added(store, *segments)
    version = await put(store, 0, segments)
    assert not await is_left(store)
    newer = await put(store, version, segments[:1])
    assert await counts(store) == [2, 7, 7]
    assert await is_left(store)
    assert await carried_out(store) == 1 + 3
    assert await counts(store) == [1, 1, 1]
    assert not await is_left(store)
    async with store.database.write() as connection:
        context = await contexts.get(connection, store.kb.organisation_id, "ctx")
        await contexts.remove(connection, store.kb.organisation_id, context)
    freed = contexts.stored_bytes("ctx", None, context.data)
    assert await stored_bytes(store) == before - freed
    assert await carried_out(store) >= 2
    assert await counts(store) == [0, 0, 0]
    assert newer != version


async def test_a_knowledge_base_goes_with_its_shared_indexes_in_bounded_steps(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deletions, "_LARGE_ROWS", 2)
    before = await stored_bytes(store)
    for kind in ("records", "chunks"):
        await added(store, b"a", b"b", kind=kind)
        await put(store, 0, [b"a"], kind=kind)
    async with store.database.write() as connection:
        kb = await knowledge_bases.lock(connection, store.kb)
        await deletions.delete_knowledge_base(connection, kb)
    assert await stored_bytes(store) == before
    assert await carried_out(store) == 1 + 2 + 1  # indexes, segments, the knowledge base itself
    assert await counts(store) == [0, 0, 0]


async def test_a_segment_that_no_index_lists_expires(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await added(store, b"listed")
    version = await put(store, 0, [b"listed"])
    before = await stored_bytes(store)
    await added(store, b"uploaded", b"another")
    assert not await is_left(store)
    monkeypatch.setattr(shared_indexes, "LIFETIME", timedelta(hours=-1))
    assert await is_left(store)
    await carried_out(store)
    assert not await is_left(store)
    assert await stored_bytes(store) == before
    assert await counts(store) == [1, 1, 1]
    with pytest.raises(SharedIndexOutdated, match="is not stored"):
        await put(store, version, [b"listed", b"uploaded"])


async def test_archives_leave_shared_indexes_out_with_their_bytes(store: Store, tmp_path: Path) -> None:
    before = await stored_bytes(store)
    await added(store, b"listed", b"uploaded")
    await put(store, 0, [b"listed"])
    assert await stored_bytes(store) > before
    source = dialect_of(store_url(tmp_path / "here"))
    back_up(source, tmp_path / "backup.tar")
    restore(dialect_of(store_url(tmp_path / "restored")), tmp_path / "restored", tmp_path / "backup.tar")
    copy(source, dialect_of(store_url(tmp_path / "copied")), tmp_path / "copied")
    for folder in ("restored", "copied"):
        async with open_database(store_url(tmp_path / folder), tmp_path / folder) as database:
            again = Store(database, store.kb, store.binding)
            assert await counts(again) == [0, 0, 0]
            assert await stored_bytes(again) == before
            await added(again, b"listed")
            assert await put(again, 0, [b"listed"])
    export(source, store.kb.id, tmp_path / "kb.tar")
    with (tmp_path / "kb.tar").open("rb") as file:
        tables = {table.name for table in ArchiveReader(file).manifest.tables}
        assert not tables & {table.name for table in TABLES}


@pytest.mark.sqlite
async def test_every_statement_goes_by_an_index(store: Store) -> None:
    async def uses(query: Any, index: str) -> None:
        found = await explained(store, query)
        assert index in found
        assert "SCAN" not in found.replace("SCAN CONSTANT ROW", "")

    mine = (*shared_indexes._of(1, "records"), index_segment.c.sha256.in_([b"a", b"b"]))
    await uses(select(index_segment.c.pk).where(*mine), "(binding_pk=? AND kind=? AND sha256=?)")
    index = shared_index.c
    await uses(select(index.pk).where(index.binding_pk == 1, index.kind == "records"), "(binding_pk=? AND kind=?)")
    left = await explained(store, select(*shared_indexes.is_left()))
    assert "ix_index_segment_unlisted_since (unlisted_since<?)" in left
    assert "SEARCH shared_index USING INDEX sqlite_autoindex_shared_index_1 (binding_pk=?)" in left
    assert "SEARCH index_segment USING INDEX sqlite_autoindex_index_segment_1 (binding_pk=?)" in left
