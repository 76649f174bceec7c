"""Statements in SQLite: one call to the connection's thread, and what SQLAlchemy's own cursor gives."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiosqlite
import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from xtrace_server.storage.sqlite.dialect import Sqlite

STATEMENTS: list[tuple[str, Any]] = [
    ("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT NOT NULL UNIQUE)", ()),
    ("INSERT INTO t (b) VALUES (?)", ("one",)),
    ("INSERT INTO t (b) VALUES (?)", [("two",), ("three",)]),
    ("SELECT a, b AS named FROM t ORDER BY a", ()),
    ("SELECT a FROM t WHERE b = ?", ("none",)),
    ("UPDATE t SET b = b || '!' WHERE a > ?", (1,)),
    ("DELETE FROM t WHERE a = ?", (1,)),
    ("INSERT INTO t (b) VALUES (?) RETURNING a, b", ("four",)),
    ("PRAGMA foreign_keys", ()),
]


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    made = Sqlite(f"sqlite+aiosqlite:///{tmp_path / 'ours.db'}").writer(1)
    yield made
    await made.dispose()


@pytest.fixture
async def plain(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    made = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'plain.db'}")
    async with made.connect() as connection:
        await connection.exec_driver_sql("PRAGMA foreign_keys = ON")
    yield made
    await made.dispose()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What connections are asked, one after the other."""
    asked: list[str] = []
    execute = aiosqlite.Connection._execute

    async def counted(self: aiosqlite.Connection, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        asked.append(function.__name__)
        return await execute(self, function, *arguments, **named)  # type: ignore[no-untyped-call]

    monkeypatch.setattr(aiosqlite.Connection, "_execute", counted)
    return asked


async def results(engine: AsyncEngine) -> list[Any]:
    """What each statement gives: its columns and rows, or its counts."""
    found: list[Any] = []
    async with engine.connect() as connection:
        for statement, parameters in STATEMENTS:
            result = await connection.exec_driver_sql(statement, parameters)
            if result.returns_rows:
                found.append((list(result.keys()), [tuple(row) for row in result]))
            else:
                found.append((result.rowcount, None if isinstance(parameters, list) else result.lastrowid))
    return found


async def test_every_kind_of_statement_gives_what_it_gives_otherwise(engine: AsyncEngine, plain: AsyncEngine) -> None:
    assert await results(engine) == await results(plain)


async def test_a_statement_is_one_call_to_the_thread(engine: AsyncEngine, calls: list[str]) -> None:
    async with engine.connect() as connection:
        await connection.execute(text("SELECT 1"))
        calls.clear()
        for _ in range(3):
            assert (await connection.execute(text("SELECT 1 UNION SELECT 2"))).scalars().all() == [1, 2]
        assert len(calls) == 3


async def test_a_single_statement_has_no_transaction_around_it(tmp_path: Path, calls: list[str]) -> None:
    database = Sqlite(f"sqlite+aiosqlite:///{tmp_path / 'ours.db'}")
    reader = database.reader(1)
    for engine, asked in ((reader, 3), (database.single(reader), 1), (reader, 3)):
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))  # opens and prepares the connection
        calls.clear()
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
        assert len(calls) == asked
    await reader.dispose()


async def fails(connection: AsyncConnection, error: type[Exception], statement: str) -> None:
    with pytest.raises(error):
        await connection.exec_driver_sql(statement)


async def test_an_error_leaves_the_connection_usable(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        await connection.exec_driver_sql("CREATE TABLE t (a INTEGER PRIMARY KEY)")
        await connection.exec_driver_sql("INSERT INTO t VALUES (1)")
        await fails(connection, IntegrityError, "INSERT INTO t VALUES (1)")
        await fails(connection, OperationalError, "SELECT * FROM missing")
        assert (await connection.execute(text("SELECT a FROM t"))).scalar_one() == 1


async def test_a_statement_that_is_cancelled_ends(engine: AsyncEngine) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05), engine.connect() as connection:
            await connection.execute(text(endless))
    async with engine.connect() as connection:  # the only one there is
        assert (await connection.execute(text("SELECT 1"))).scalar_one() == 1
