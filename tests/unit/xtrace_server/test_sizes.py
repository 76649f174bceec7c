"""The bytes of chunks are known before they are read, whichever way they were written."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import func, select

from support.database import Store, open_store
from xtrace_core.metadata import parse_meta_data
from xtrace_core.wire import MetaData
from xtrace_server.storage import chunk_writes, contexts, deletions, knowledge_bases, sizes
from xtrace_server.storage.chunk_writes import ChunkChange, ChunkWrite
from xtrace_server.storage.schema import chunk, chunk_pk, deleted_chunk
from xtrace_server.storage.sizes import CHUNK_BYTES, bounded_steps

POSTGRES_BY_DEFAULT = True
pytestmark = pytest.mark.usefixtures("database")


def write(content: str, name: str = "", **meta_data: Any) -> ChunkWrite:
    return ChunkWrite(content, b"row", parse_meta_data(meta_data), name, None)


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(tmp_path) as store:
        yield store


async def insert(store: Store, *writes: ChunkWrite) -> None:
    async with store.database.write() as connection:
        kb = await knowledge_bases.lock(connection, store.kb)
        await contexts.fix_row_bytes(connection, store.binding, 3)
        await chunk_writes.insert_all(connection, kb, store.binding, writes)


async def sizes_of(store: Store) -> list[int]:
    async with store.database.read("") as connection:
        return list((await connection.execute(select(CHUNK_BYTES).order_by(chunk.c.pk))).scalars())


async def test_every_write_records_how_many_bytes_there_are(store: Store) -> None:
    await insert(store, write("four"), write("å∂", "nämé", tag1="tág", facets=["é", "xy"]))
    assert await sizes_of(store) == [4, 5 + 6 + 4 + 4]
    first, second = chunk_pk(store.kb.pk, 1), chunk_pk(store.kb.pk, 2)
    async with store.database.write() as connection:
        kb = await knowledge_bases.lock(connection, store.kb)
        changes = [
            ChunkChange(pk=first, content="é" * 10, meta_data=parse_meta_data({"facets": ["ö", "ö", "abc"]})),
            ChunkChange(pk=second, name="n", meta_data=MetaData(tag1=None, tag5="12")),
        ]
        await chunk_writes.change_all(connection, kb, changes)
    assert await sizes_of(store) == [20 + 5, 5 + 1 + 2 + 4]
    async with store.database.write() as connection:
        kb = await knowledge_bases.lock(connection, store.kb)
        await chunk_writes.replace_all(connection, kb, store.binding, {first: write("x"), second: write("é", "é")})
    assert await sizes_of(store) == [1, 4]


async def test_steps_are_bounded_by_number_and_by_bytes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "STEP_BYTES", 100)
    await insert(store, *[write("x" * size) for size in (10, 90, 1, 500, 3, 3, 3, 3)])
    pks = [chunk_pk(store.kb.pk, i) for i in (8, 1, 2, 3, 99, 4, 5, 6, 7)]
    async with store.database.read("") as connection:
        steps = [[pk & 0xFF for pk in step] async for step in bounded_steps(connection, pks, 3)]
    assert steps == [[8, 1], [2, 3], [4], [5, 6, 7]]


async def test_a_deletion_of_many_bytes_takes_several_steps(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "STEP_BYTES", 100)
    await insert(store, *[write("x" * 60) for _ in range(4)])
    async with store.database.write() as connection:
        kb = await knowledge_bases.lock(connection, store.kb)
        await chunk_writes.remove(connection, kb, [chunk_pk(kb.pk, 1)])
        assert await count(connection, deleted_chunk) == 0, "one step is carried out at once"
        await chunk_writes.remove(connection, kb, [chunk_pk(kb.pk, i) for i in (2, 3, 4)])
        assert await count(connection, deleted_chunk) == 3
    for left in (2, 1, 0):
        async with store.database.write() as connection:
            assert await deletions.carry_out(connection) is not None
            assert await count(connection, chunk) == left


async def count(connection: Any, table: Any) -> int:
    return int((await connection.execute(select(func.count()).select_from(table))).scalar_one())
