"""What only PostgreSQL knows: plans, long texts, bounds, messages without values, and the way in and out of it."""

import traceback
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import delete, insert, select, text, update
from sqlalchemy.exc import DBAPIError

from support import databases
from support.database import Store, open_store, without_limit
from xtrace_core.wire import MetaData
from xtrace_server.errors import NamesTaken, StorageReadOnly, Unavailable
from xtrace_server.storage import chunks, organisations
from xtrace_server.storage.archiving import back_up, restore
from xtrace_server.storage.chunk_changes import written_query
from xtrace_server.storage.chunk_pages import PageQuery, statements
from xtrace_server.storage.chunk_writes import ChunkWrite, insert_all, insert_unique
from xtrace_server.storage.chunks import ChunkFields, pk_query
from xtrace_server.storage.database import Database
from xtrace_server.storage.dialects import DatabaseUnusable, Options, dialect_of
from xtrace_server.storage.indexed_text import is_one_of
from xtrace_server.storage.keyset import Position
from xtrace_server.storage.knowledge_bases import lock
from xtrace_server.storage.schema import audit, chunk, knowledge_base, organisation

DATABASES = (databases.POSTGRES,)
pytestmark = pytest.mark.usefixtures("database")

LONG = "\U0010ffff" * 65_536
"""A quarter of a megabyte; an entry of an index has at most 2,704 bytes."""


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(tmp_path) as store:
        await store.add([{"tag1": f"u{i}", "tag2": "x", "facets": [f"f{i}", "all"]} for i in range(300)])
        yield store


async def plan(store: Store, filter_: Any, **scope: Any) -> str:
    wanted = store.candidates(filter_)
    query = pk_query(replace(wanted, scope=replace(wanted.scope, **scope)))
    async with store.database.look_up() as connection:
        # So few rows are read one after the other sooner than by an index; what matters is whether one could be used.
        await connection.execute(text("SET LOCAL enable_seqscan = off"))
        compiled = query.compile(dialect=connection.dialect, compile_kwargs={"render_postcompile": True})
        explained = await connection.exec_driver_sql(f"EXPLAIN {compiled}", compiled.params)
        return "\n".join([row[0] for row in explained])


@pytest.mark.parametrize(
    ("filter_", "index"),
    [
        ({"tag1": "u7"}, "ix_chunk_tag1"),
        ({"tag1": LONG}, "ix_chunk_tag1"),
        ({"tag1": {"$in": ["u7", "u8", LONG]}}, "ix_chunk_tag1"),
        ({"tag1": {"$gt": "u7"}}, "ix_chunk_tag1"),
        ({"tag1": {"$gte": "u7", "$lt": LONG}}, "ix_chunk_tag1"),
        ({"tag3": {"$lte": "u7"}}, "ix_chunk_tag3"),
        ({"tag1": {"$begins_with": "u7"}}, "ix_chunk_tag1"),
        ({"tag3": {"$exists": True}}, "ix_chunk_tag3"),
        ({"facets": "f7"}, "ix_facet_token"),
        ({"facets": {"$any": ["f7", "f8"]}}, "ix_facet_token"),
        ({"facets": {"$all": ["f7", LONG]}}, "ix_facet_token"),
        ({"$or": [{"tag1": "u7"}, {"tag2": "y"}]}, "ix_chunk_tag2"),
        ({"$and": [{"tag1": "u7"}, {"tag2": {"$contains": "x"}}]}, "ix_chunk_tag1"),
    ],
)
async def test_a_selective_condition_goes_by_an_index(store: Store, filter_: Any, index: str) -> None:
    async with store.database.write() as connection:
        await connection.execute(text("ANALYZE"))
    explained = await plan(store, filter_)
    assert index in explained
    assert "Seq Scan on chunk" not in explained
    conditions = [line for line in explained.splitlines() if "Index Cond" in line]
    column = "token" if index == "ix_facet_token" else index.removeprefix("ix_chunk_")
    assert any(f'"left"({column}, 256)' in line for line in conditions), explained


@pytest.mark.parametrize("filter_", [{"tag1": "u7"}, {"facets": "f7"}, {"tag1": {"$ne": "u7"}}])
async def test_a_filter_reads_the_few_chunks_in_no_block_and_not_its_matches_in_blocks(
    store: Store, filter_: Any
) -> None:
    async with store.database.write() as connection:
        await connection.execute(text("UPDATE chunk SET block_pk = 1, slot = 1 WHERE tag1 > 'u1'"))
        await connection.execute(text("ANALYZE"))
    assert "ix_chunk_unsealed" in await plan(store, filter_, unsealed=True, few=True)


async def test_what_was_written_since_a_revision_is_found_by_an_index(store: Store) -> None:
    for _ in range(30):
        await store.add([{"tag1": "later"}])
    async with store.database.write() as connection:
        await connection.execute(text("ANALYZE"))
    query = written_query(store.binding, 29, 0).limit(10)
    async with store.database.look_up() as connection:
        compiled = query.compile(dialect=connection.dialect, compile_kwargs={"render_postcompile": True})
        await connection.execute(text("SET LOCAL enable_seqscan = off"))
        explained = await connection.exec_driver_sql(f"EXPLAIN {compiled}", compiled.params)
        found = [row[0] for row in explained]
    assert any("ix_chunk_revision" in line for line in found), found
    assert any("Index Cond" in line and "revision >" in line for line in found), found


@pytest.mark.parametrize(
    ("column", "after", "condition"),
    [
        ("updated_at", Position("2026-01-01", 7), "ROW(updated_at, pk)"),
        ("created_at", Position("2026-01-01", 7), "ROW(created_at, pk)"),
        ("tag1", Position("u2", 7), '"left"(tag1, 256)'),
    ],
)
async def test_pages_follow_an_index(store: Store, column: str, after: Position, condition: str) -> None:
    query = PageQuery(sort_by=column, descending=True, limit=25, offset=0, after=after)
    async with store.database.write() as connection:
        await connection.execute(text("ANALYZE"))
    async with store.database.look_up() as connection:
        await connection.execute(text("SET LOCAL enable_seqscan = off"))
        await connection.execute(text("SET LOCAL enable_sort = off"))
        compiled = (
            statements(store.candidates(), query)[0]
            .limit(26)
            .compile(dialect=connection.dialect, compile_kwargs={"render_postcompile": True})
        )
        explained = await connection.exec_driver_sql(f"EXPLAIN {compiled}", compiled.params)
        found = [row[0] for row in explained]
    assert any(f"ix_chunk_{column}" in line for line in found), found
    assert any("Index Cond" in line and condition in line for line in found), found


async def test_names_are_looked_up_by_an_index(store: Store) -> None:
    async with store.database.look_up() as connection:
        await connection.execute(text("SET LOCAL enable_seqscan = off"))
        query = select(chunk.c.pk).where(chunk.c.binding_pk == store.binding.pk, chunks._NAMED)
        named = query.where(is_one_of(chunk.c.name, ["a", LONG]))
        compiled = named.compile(dialect=connection.dialect, compile_kwargs={"render_postcompile": True})
        explained = await connection.exec_driver_sql(f"EXPLAIN {compiled}", compiled.params)
        found = [row[0] for row in explained]
    assert any("ix_chunk_name" in line for line in found), found


async def test_texts_of_any_length_are_stored_found_and_told_apart(store: Store) -> None:
    longer, other = LONG[:-1] + "a", LONG[:300]
    values = [LONG, longer, other, LONG[:255], LONG[:256], LONG[:257]]
    ids = await store.add([{"tag1": value, "facets": [value]} for value in values])
    by_value = dict(zip(values, ids, strict=True))
    async with store.database.look_up() as connection:

        async def found(filter_: Any) -> list[int]:
            return [
                pk & (2**40 - 1)
                for pk in await chunks.matching_pks(connection, store.candidates(filter_), without_limit)
            ]

        for value in values:
            assert await found({"tag1": value}) == [by_value[value]]
            assert await found({"facets": value}) == [by_value[value]]
            assert await found({"facets": {"$all": [value]}}) == [by_value[value]]
            above = sorted(by_value[one] for one in values if one > value)
            assert await found({"tag1": {"$gt": value}}) == above
            assert await found({"tag1": {"$gte": value}}) == sorted([by_value[value], *above])
        assert await found({"tag1": {"$in": values}}) == ids
        assert await found({"tag1": {"$begins_with": LONG[:257]}}) == sorted(
            by_value[v] for v in values[:3] + values[5:]
        )


async def test_unique_names_of_any_length_are_held(store: Store) -> None:
    names = [LONG, LONG[:-1], "short"]

    async def store_names() -> None:
        async with store.database.write() as connection:
            kb = await lock(connection, store.kb)
            writes = [ChunkWrite("content", b"row", MetaData(), name, None) for name in names]
            await insert_unique(connection, kb, store.binding, writes, "fail")

    await store_names()
    with pytest.raises(NamesTaken):
        await store_names()
    async with store.database.look_up() as connection:
        assert set(await chunks.find_names(connection, store.binding, names)) == set(names)


async def test_errors_quote_no_values(store: Store) -> None:
    values = {"id": "a secret value", "name": "another secret", "created_at": "now"}
    for _ in range(2):
        try:
            async with store.database.write() as connection:
                await connection.execute(insert(organisation).values(values))
        except DBAPIError as error:
            shown = "".join(traceback.format_exception(error))
            assert "duplicate key" in shown
            assert "secret" not in shown
            return
    raise AssertionError("the database took the same row twice")


async def test_errors_of_copying_quote_no_values_either(store: Store) -> None:
    async def store_again() -> None:
        async with store.database.write() as connection:
            await connection.execute(update(knowledge_base).values(next_chunk_id=1))
            kb = await lock(connection, store.kb)
            writes = [ChunkWrite("content", b"row", MetaData(), "", None)]
            await insert_all(connection, kb, store.binding, writes)

    with pytest.raises(DBAPIError) as caught:
        await store_again()
    shown = "".join(traceback.format_exception(caught.value))
    assert "duplicate key" in shown
    assert "(pk)=" not in shown
    await store.add([{}])  # the connection is of use again


async def test_a_snapshot_cannot_write(store: Store) -> None:
    with pytest.raises(DBAPIError) as caught:
        async with store.database.read("") as connection:
            await connection.execute(update(knowledge_base).values(name="x"))
    assert isinstance(store.database.fault(caught.value), StorageReadOnly)


async def test_a_snapshot_is_of_one_moment(store: Store) -> None:
    async with store.database.read("") as connection:
        before = await chunks.count_matching(connection, store.candidates())
        await store.add([{}])
        assert await chunks.count_matching(connection, store.candidates()) == before


async def test_a_statement_has_a_bound(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        url = databases.postgres.url(tmp_path)
        database = Database(url, options=Options(connections=4, statement_timeout_s=0.2))
        try:
            with pytest.raises(DBAPIError) as caught:
                async with database.write() as connection:
                    await connection.execute(text("SELECT pg_sleep(30)"))
            assert isinstance(store.database.fault(caught.value), Unavailable)
        finally:
            await database.close()


async def test_a_server_opens_no_more_connections_than_it_may(tmp_path: Path) -> None:
    for connections in range(4, 40):
        readers, writers = dialect_of("postgresql:///x", Options(connections=connections)).places
        assert min(readers, writers) >= 1
        assert readers + writers + 2 == connections


async def test_the_audit_log_is_only_added_to(store: Store) -> None:
    for statement in (update(audit).values(actor="x"), delete(audit), text("TRUNCATE audit")):
        with pytest.raises(DBAPIError, match="only ever added to"):
            async with store.database.write() as connection:
                await connection.execute(statement)


# Archives


async def test_a_backup_of_sqlite_is_restored_here_and_back_again(tmp_path: Path) -> None:
    here, there = tmp_path / "postgres", tmp_path / "sqlite"
    here.mkdir()
    there.mkdir()
    databases.use(databases.SQLITE)
    async with open_store(there) as store:
        await store.add([{"tag1": f"u{i}", "facets": ["f", LONG]} for i in range(20)])
    databases.use(databases.POSTGRES)
    sqlite = dialect_of(f"sqlite+aiosqlite:///{there}/test.db")
    first, second = tmp_path / "first.tar", tmp_path / "second.tar"
    back_up(sqlite, first)
    url = databases.postgres.url(here)
    done = restore(dialect_of(url), here, first)
    database = Database(url)
    try:
        async with database.look_up() as connection:
            pks = await chunks.matching_pks(connection, store.candidates({"facets": LONG}), without_limit)
            read = await chunks.read(connection, pks, ChunkFields(content=True, row=True))
        assert [(one.tags[0], one.content, one.row) for one in read.values()] == [
            (f"u{i}", "content", b"row") for i in range(20)
        ]
        async with database.write() as connection:
            # What PostgreSQL numbers goes on where SQLite was.
            made = await organisations.create(connection, "later", "later")
            values = dict.fromkeys(("name", "description", "created_at", "updated_at"), "")
            numbers = dict.fromkeys(
                ("number_of_vectors", "next_chunk_id", "revision", "removal_revision", "stored_bytes"), 0
            )
            row = {**values, **numbers, "id": "later", "organisation_id": made.id}
            await connection.execute(insert(knowledge_base).values(row))
    finally:
        await database.close()
    assert back_up(dialect_of(url), second).rows == done.rows + 4
    with pytest.raises(DatabaseUnusable, match="a database exists"):
        restore(dialect_of(url), here, first)
    again = tmp_path / "again"
    restore(dialect_of(f"sqlite+aiosqlite:///{again}/test.db"), again, second)


def test_a_database_that_cannot_be_reached_is_one_sentence(tmp_path: Path) -> None:
    database = dialect_of(f"postgresql://user:secret@/name?host={tmp_path}")
    with pytest.raises(DatabaseUnusable, match=r"the PostgreSQL database name on .* cannot be reached") as caught:
        database.exists()
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_encoding_is_refused(tmp_path: Path) -> None:
    url = databases.postgres.url(tmp_path)
    name = url.partition("?")[0].rpartition("/")[2]
    with databases.postgres.connect(tmp_path) as connection:
        connection.execute(
            f"CREATE DATABASE {name}_x TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'"
        )
    try:
        with pytest.raises(DatabaseUnusable, match="has the encoding SQL_ASCII, expected UTF8"):
            dialect_of(url.replace(name, f"{name}_x")).prepare(tmp_path, ["0001"], False)
    finally:
        with databases.postgres.connect(tmp_path) as connection:
            connection.execute(f"DROP DATABASE {name}_x")


def test_vacuuming_is_left_to_postgres() -> None:
    with pytest.raises(DatabaseUnusable, match="autovacuum"):
        dialect_of("postgresql:///x").vacuum()
