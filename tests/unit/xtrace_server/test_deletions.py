"""Deletions of many: nobody sees what was deleted from the end of the transaction on, and steps carry it out."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from support.database import Store, open_store, without_limit
from xtrace_core.metadata import parse_meta_data
from xtrace_server.errors import ChunksChanged, ChunksNotFound, KnowledgeBaseNotFound
from xtrace_server.storage import chunk_pages, chunk_writes, chunks, contexts, deletions, knowledge_bases, vectors
from xtrace_server.storage.chunk_pages import PageQuery
from xtrace_server.storage.chunk_writes import ChunkWrite
from xtrace_server.storage.chunks import ChunkFields
from xtrace_server.storage.knowledge_bases import KnowledgeBase
from xtrace_server.storage.schema import binding, chunk, chunk_pk, ciphertext, content, deleted_chunk, facet
from xtrace_server.storage.schema import knowledge_base as knowledge_base_table

POSTGRES_BY_DEFAULT = True
pytestmark = pytest.mark.usefixtures("database")

CHUNKS = 7
GONE = (2, 3, 5)
LEFT = [i for i in range(1, CHUNKS + 1) if i not in GONE]


@pytest.fixture(autouse=True)
def _few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deletions, "STEP", 2)


def write(i: int) -> ChunkWrite:
    return ChunkWrite("content", b"row", parse_meta_data({"tag1": f"t{i}", "facets": ["f"]}), f"name {i}", None)


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(tmp_path) as store:
        async with store.database.write() as connection:
            writes = [write(i) for i in range(1, CHUNKS + 1)]
            await contexts.fix_row_bytes(connection, store.binding, 3)
            await chunk_writes.insert_unique(connection, store.kb, store.binding, writes, "fail")
        async with store.database.write() as connection:
            kb = await knowledge_bases.lock(connection, store.kb)
            pks = [chunk_pk(kb.pk, i) for i in (*GONE, 99)]
            assert await chunk_writes.remove(connection, kb, pks) == pks[:-1]
        yield store


async def carried_out(store: Store) -> int:
    """Carries out everything, and says how many steps that took."""
    steps = 0
    while True:
        async with store.database.write() as connection:
            if await deletions.carry_out(connection) is None:
                return steps
        steps += 1


async def counts(store: Store, *tables: Any) -> list[int]:
    async with store.database.look_up() as connection:
        return [(await connection.execute(select(func.count()).select_from(table))).scalar_one() for table in tables]


async def ids_of(blocks: AsyncIterator[vectors.VectorBlock]) -> list[int]:
    return [pk & 0xFFFF async for block in blocks for pk in block.pks]


Read = Callable[[AsyncConnection, Store, KnowledgeBase], Awaitable[Sequence[int]]]


async def by_id(connection: AsyncConnection, store: Store, kb: KnowledgeBase) -> list[int]:
    pks = [chunk_pk(kb.pk, i) for i in range(1, CHUNKS + 1)]
    found = await chunks.read(connection, pks, ChunkFields(content=True, row=True))
    return [one.chunk_id for one in found.values()]


async def by_name(connection: AsyncConnection, store: Store, kb: KnowledgeBase) -> list[int]:
    found = await chunks.find_names(connection, store.binding, [f"name {i}" for i in range(1, CHUNKS + 1)])
    return sorted(found.values())


async def by_facet(connection: AsyncConnection, store: Store, kb: KnowledgeBase) -> list[int]:
    pks = await chunks.matching_pks(connection, store.candidates({"facets": "f"}), without_limit)
    return [pk & 0xFFFF for pk in pks]


async def by_tag(connection: AsyncConnection, store: Store, kb: KnowledgeBase) -> list[int]:
    pks = await chunks.matching_pks(connection, store.candidates({"tag1": {"$begins_with": "t"}}), without_limit)
    return [pk & 0xFFFF for pk in pks]


async def page(connection: AsyncConnection, store: Store, kb: KnowledgeBase) -> list[int]:
    query = PageQuery(sort_by="tag1", descending=False, limit=100, offset=0, after=None)
    found = await chunk_pages.page(connection, store.candidates(), query, without_limit)
    return [pk & 0xFFFF for pk in found.pks]


async def rows(connection: AsyncConnection, store: Store, kb: KnowledgeBase) -> list[int]:
    return await ids_of(vectors.read_all(connection, store.binding))


async def newer_rows(connection: AsyncConnection, store: Store, kb: KnowledgeBase) -> list[int]:
    return await ids_of(vectors.read_newer(connection, store.binding, 0))


async def matching_rows(connection: AsyncConnection, store: Store, kb: KnowledgeBase) -> list[int]:
    block = await vectors.read_matching(connection, store.candidates({"facets": "f"}))
    return [pk & 0xFFFF for pk in block.pks] if block else []


async def keys(connection: AsyncConnection, store: Store, kb: KnowledgeBase) -> list[int]:
    return [pk & 0xFFFF for pk in (await vectors.read_pks(connection, store.binding)).tolist()]


READS: list[Read] = [by_id, by_name, by_facet, by_tag, page, rows, newer_rows, matching_rows, keys]


@pytest.mark.parametrize("read", READS)
async def test_no_read_shows_a_deleted_chunk_before_and_after_it_is_carried_out(store: Store, read: Read) -> None:
    for _ in range(2):
        async with store.database.look_up() as connection:
            kb = await knowledge_bases.get(connection, await _organisation(connection), store.kb.id)
            assert kb.number_of_vectors == len(LEFT)
            assert list(await read(connection, store, kb)) == LEFT
            assert await chunks.count_matching(connection, replace(store.candidates(), kb=kb)) == len(LEFT)
            inside = store.candidates(id_range=(1, CHUNKS - 1))
            assert await chunks.count_matching(connection, inside) == len(LEFT) - 1
        await carried_out(store)


async def test_what_was_deleted_goes_in_steps_with_all_that_belongs_to_it(store: Store) -> None:
    tables = (chunk, content, ciphertext, facet, deleted_chunk)
    assert await counts(store, *tables) == [CHUNKS] * 4 + [len(GONE)]
    assert await carried_out(store) == 2
    assert await counts(store, *tables) == [len(LEFT)] * 4 + [0]


async def test_no_write_meets_a_deleted_chunk(store: Store) -> None:
    pks = [chunk_pk(store.kb.pk, i) for i in GONE]
    async with store.database.write() as connection:
        kb = await knowledge_bases.lock(connection, store.kb)
        with pytest.raises(ChunksNotFound):
            await chunks.existing_bindings(connection, kb, GONE)
        with pytest.raises(ChunksChanged):
            await chunks.check_unchanged(connection, dict.fromkeys(pks, "then"))
        assert await chunk_writes.remove(connection, kb, pks) == []


async def test_a_name_is_free_as_soon_as_its_chunk_was_deleted(store: Store) -> None:
    async with store.database.write() as connection:
        kb = await knowledge_bases.lock(connection, store.kb)
        done = await chunk_writes.insert_unique(connection, kb, store.binding, [write(2), write(4)], "skip")
        assert done == [(CHUNKS + 1, "inserted"), (4, "known")]
    await carried_out(store)
    async with store.database.look_up() as connection:
        assert await by_name(connection, store, store.kb) == sorted([*LEFT, CHUNKS + 1])


async def test_a_deleted_knowledge_base_is_gone_at_once_and_its_rows_after_steps(store: Store) -> None:
    async with store.database.write() as connection:
        kb = await knowledge_bases.lock(connection, store.kb)
        assert await deletions.delete_knowledge_base(connection, kb) == [store.binding.pk]
    async with store.database.write() as connection:
        with pytest.raises(KnowledgeBaseNotFound):
            await knowledge_bases.lock(connection, store.kb)
        assert await deletions.is_left(connection)
        context = await contexts.get(connection, await _organisation(connection), "ctx")
        assert not await contexts.bound_knowledge_bases(connection, context)
        assert not await contexts.is_in_use(connection, context)
    assert await carried_out(store) > 2
    tables = (chunk, content, ciphertext, facet, deleted_chunk, binding, knowledge_base_table)
    assert await counts(store, *tables) == [0] * len(tables)
    async with store.database.look_up() as connection:
        assert not await deletions.is_left(connection)


async def test_a_context_whose_last_chunks_were_deleted_can_go_before_they_have_gone(store: Store) -> None:
    async with store.database.write() as connection:
        kb = await knowledge_bases.lock(connection, store.kb)
        await chunk_writes.remove(connection, kb, [chunk_pk(kb.pk, i) for i in LEFT])
    async with store.database.write() as connection:
        context = await contexts.get(connection, await _organisation(connection), "ctx")
        assert not await contexts.is_in_use(connection, context)
        await contexts.remove(connection, store.kb.organisation_id, context)
    assert (await counts(store, chunk))[0] > 0
    await carried_out(store)
    assert await counts(store, chunk, binding, knowledge_base_table) == [0, 0, 1]


async def _organisation(connection: AsyncConnection) -> str:
    query = select(knowledge_base_table.c.organisation_id)
    return str((await connection.execute(query)).scalar_one())
