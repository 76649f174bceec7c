"""Pages of chunks in every order, against a simple sort."""

from collections.abc import AsyncIterator
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import select

from support.database import Store, open_store, without_limit
from xtrace_core.wire import MetaData
from xtrace_server.storage import chunk_pages
from xtrace_server.storage.chunk_pages import PageQuery
from xtrace_server.storage.chunk_writes import ChunkChange, change_all, remove
from xtrace_server.storage.indexed_text import INDEXED_CHARACTERS
from xtrace_server.storage.keyset import Position
from xtrace_server.storage.knowledge_bases import lock
from xtrace_server.storage.schema import chunk

POSTGRES_BY_DEFAULT = True
pytestmark = pytest.mark.usefixtures("database")

BEGINNING = "z" * INDEXED_CHARACTERS
TAGS = (None, "b", "", BEGINNING + "b", None, "a", "b", BEGINNING, "", BEGINNING + "a", "é", "b", None)
"""Also tags that differ only after the part that PostgreSQL's index contains."""


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """Chunks of several writes, some changed, one deleted."""
    async with open_store(tmp_path) as store:
        ids = [
            await store.add([{"tag1": tag, "tag2": "x"} for tag in TAGS[start : start + 4]]) for start in (0, 4, 8, 12)
        ]
        pks = [store.kb.first_pk + one for some in ids for one in some]
        async with store.database.write() as connection:
            kb = await lock(connection, store.kb)
            await change_all(connection, kb, [ChunkChange(pk=pk, meta_data=MetaData(tag2="y")) for pk in pks[2:4]])
        async with store.database.write() as connection:
            await remove(connection, await lock(connection, store.kb), [pks[6]])
        yield store


async def expected(store: Store, column: str, descending: bool) -> list[int]:
    """The keys as Python sorts them."""
    key = chunk.c.pk if column == "chunk_id" else chunk.c[column]
    async with store.database.look_up() as connection:
        rows = [(value or "", pk) for value, pk in await connection.execute(select(key, chunk.c.pk))]
    return [pk for _, pk in sorted(rows, key=itemgetter(0, 1), reverse=descending)]


async def pages(store: Store, meta_filter: Any, **wanted: Any) -> list[list[int]]:
    """All pages, each from where the one before ended."""
    found: list[list[int]] = []
    after: Position | None = None
    async with store.database.look_up() as connection:
        while True:
            query = PageQuery(**wanted, limit=3, offset=3 * len(found), after=after)
            page = await chunk_pages.page(connection, store.candidates(meta_filter), query, without_limit)
            found.append(list(page.pks))
            if not page.has_more:
                return found
            after = page.last


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("column", ["chunk_id", "tag1", "tag2", "tag3", "created_at", "updated_at"])
async def test_pages_are_sorted_as_a_simple_sort_does(store: Store, column: str, descending: bool) -> None:
    for meta_filter in (None, {"tag2": {"$exists": True}}):
        found = await pages(store, meta_filter, sort_by=column, descending=descending)
        assert [len(page) for page in found] == [3, 3, 3, 3]
        assert [pk for page in found for pk in page] == await expected(store, column, descending)


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("column", ["tag1", "updated_at"])
async def test_a_page_by_its_offset_is_the_same(store: Store, column: str, descending: bool) -> None:
    query = PageQuery(sort_by=column, descending=descending, limit=4, offset=5, after=None)
    async with store.database.look_up() as connection:
        found = await chunk_pages.page(connection, store.candidates(), query, without_limit)
    assert list(found.pks) == (await expected(store, column, descending))[5:9]
