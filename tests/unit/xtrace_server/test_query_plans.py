"""What the filters cost: which conditions SQLite answers from an index, and that none reads contents or vectors."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import IntegrityError

from support.database import Store, open_store
from xtrace_server.storage.chunk_changes import living_query, written_query
from xtrace_server.storage.chunk_pages import PageQuery, statements
from xtrace_server.storage.chunks import pk_query
from xtrace_server.storage.keyset import Position


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(tmp_path) as store:
        await store.add([{"tag1": f"u{i}", "tag2": "x", "facets": [f"f{i}", "all"]} for i in range(300)])
        yield store


async def plan(store: Store, filter_: Any) -> str:
    return await explained(store, pk_query(store.candidates(filter_)))


async def explained(store: Store, query: Any) -> str:
    # With bound values, as it runs: SQLite plans differently for literals.
    compiled = query.compile(dialect=sqlite.dialect(), compile_kwargs={"render_postcompile": True})
    values = tuple(compiled.params[name] for name in compiled.positiontup or ())
    async with store.database.look_up() as connection:
        steps = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}", values)
        return "\n".join([row[-1] for row in steps])


@pytest.mark.parametrize(
    ("filter_", "index"),
    [
        ({"tag1": "u7"}, "ix_chunk_tag1 (binding_pk=? AND tag1=?)"),
        ({"tag1": {"$in": ["u7", "u8"]}}, "ix_chunk_tag1 (binding_pk=? AND tag1=?)"),
        ({"tag1": {"$gt": "u7"}}, "ix_chunk_tag1 (binding_pk=? AND tag1>?)"),
        ({"tag1": {"$gte": "u7", "$lt": "u8"}}, "ix_chunk_tag1 (binding_pk=? AND tag1>? AND tag1<?)"),
        ({"tag3": {"$lte": "u7"}}, "ix_chunk_tag3 (binding_pk=? AND tag3<?)"),
        ({"tag1": {"$begins_with": "u7"}}, "ix_chunk_tag1 (binding_pk=? AND tag1>? AND tag1<?)"),
        ({"tag1": {"$exists": True}}, "ix_chunk_tag1 (binding_pk=? AND tag1>?)"),
        ({"facets": "f7"}, "ix_facet_token (binding_pk=? AND token=?)"),
        ({"facets": {"$any": ["f7", "f8"]}}, "ix_facet_token (binding_pk=? AND token=?)"),
        ({"facets": {"$all": ["f7", "all"]}}, "ix_facet_token (binding_pk=? AND token=?)"),
        ({"$or": [{"tag1": "u7"}, {"tag2": "y"}]}, "ix_chunk_tag2 (binding_pk=? AND tag2=?)"),
        ({"$and": [{"tag1": "u7"}, {"tag2": {"$contains": "x"}}]}, "ix_chunk_tag1 (binding_pk=? AND tag1=?)"),
    ],
)
async def test_a_selective_condition_goes_by_an_index(store: Store, filter_: Any, index: str) -> None:
    found = await plan(store, filter_)
    assert index in found
    assert "SCAN chunk" not in found


@pytest.mark.parametrize(
    "filter_", [{"facets": "f7"}, {"facets": {"$any": ["f7", "f8"]}}, {"facets": {"$all": ["f7", "all"]}}]
)
async def test_facet_membership_starts_from_the_facets(store: Store, filter_: Any) -> None:
    assert "SEARCH chunk USING INTEGER PRIMARY KEY (rowid=?)" in await plan(store, filter_)


async def test_names_are_looked_up_by_an_index(store: Store) -> None:
    query = "EXPLAIN QUERY PLAN SELECT min(pk) FROM chunk WHERE binding_pk = 1 AND name <> '' AND name IN ('a')"
    async with store.database.look_up() as connection:
        found = str((await connection.execute(text(query))).all())
    assert "ix_chunk_name (binding_pk=? AND name=?)" in found


async def test_unique_names_are_looked_up_by_an_index_and_held_by_it(store: Store) -> None:
    query = "EXPLAIN QUERY PLAN SELECT name, pk FROM chunk WHERE binding_pk = 1 AND unique_name IN (x'61', x'62')"
    async with store.database.look_up() as connection:
        found = str((await connection.execute(text(query))).all())
    assert "uq_chunk_unique_name (binding_pk=? AND unique_name=?)" in found
    with pytest.raises(IntegrityError, match="UNIQUE"):
        async with store.database.write() as connection:
            await connection.execute(text("UPDATE chunk SET unique_name = x'61'"))


@pytest.mark.parametrize(
    "filter_",
    [
        {"tag1": {"$contains": "7"}},
        {"tag1": {"$ne": "u7"}},
        {"tag1": {"$nin": ["u7"]}},
        {"facets": {"$size": 2}},
        {"facets": {"$none": ["all"]}},
        {"$not": {"tag1": "u7"}},
        {"$nor": [{"tag1": "u7"}]},
    ],
)
async def test_the_other_operators_read_the_bindings_metadata_only(store: Store, filter_: Any) -> None:
    found = await plan(store, filter_)
    assert "binding_pk=?" in found
    assert "content" not in found
    assert "ciphertext" not in found


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("column", ["created_at", "updated_at"])
async def test_pages_by_time_follow_an_index(store: Store, column: str, descending: bool) -> None:
    for after in (None, Position("2026-01-01", 7)):
        (query,) = statements(store.candidates(), by(column, descending, after))
        found = await explained(store, query.limit(26))
        assert f"SEARCH chunk USING COVERING INDEX ix_chunk_{column} (binding_pk=?" in found
        assert after is None or f"{column}{'<' if descending else '>'}?" in found
        assert "TEMP B-TREE" not in found


@pytest.mark.parametrize("descending", [False, True])
async def test_pages_by_tag_follow_an_index(store: Store, descending: bool) -> None:
    for after in (None, Position("u2", 7), Position("", 7)):
        for query in statements(store.candidates(), by("tag1", descending, after)):
            found = await explained(store, query.limit(26))
            assert found.count("COVERING INDEX ix_chunk_tag1 (binding_pk=? AND tag1") == found.count("SEARCH chunk")
            assert "TEMP B-TREE FOR ORDER BY" not in found  # only of equal tags


async def test_a_filter_is_answered_before_its_matches_are_sorted(store: Store) -> None:
    (query,) = statements(store.candidates({"tag1": "u7"}), by("updated_at", True, None))
    assert "ix_chunk_tag1 (binding_pk=? AND tag1=?)" in await explained(store, query.limit(26))


def by(column: str, descending: bool, after: Position | None) -> PageQuery:
    return PageQuery(sort_by=column, descending=descending, limit=25, offset=0, after=after)


async def test_what_was_written_since_a_revision_is_found_by_an_index(store: Store) -> None:
    found = await explained(store, written_query(store.binding, 7, 0).limit(10))
    assert "SEARCH chunk USING COVERING INDEX ix_chunk_revision (binding_pk=? AND revision>?)" in found


async def test_the_first_copy_and_what_is_left_walk_the_keys_in_their_order(store: Store) -> None:
    found = await explained(store, written_query(store.binding, 0, 7).limit(10))
    assert "SEARCH chunk USING COVERING INDEX ix_chunk_binding_pk (binding_pk=? AND pk>?)" in found
    assert "TEMP B-TREE" not in found
    found = await explained(store, living_query(store.binding))
    assert "SEARCH chunk USING COVERING INDEX ix_chunk_binding_pk (binding_pk=?)" in found
