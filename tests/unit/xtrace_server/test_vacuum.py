"""Vacuuming a database that others use at the same moment."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from xtrace_server.storage.dialects import DatabaseUnusable
from xtrace_server.storage.sqlite import vacuum
from xtrace_server.storage.sqlite.vacuum import vacuum_database

BYTES = 4_000_000


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database with space to give back, and no patience with those who use it."""
    monkeypatch.setattr(vacuum, "PATIENCE_S", 0.05)
    with closing(sqlite3.connect(tmp_path / "db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        connection.execute("CREATE TABLE t (x BLOB)")
        connection.execute("INSERT INTO t VALUES (zeroblob(?)), ('kept')", (BYTES,))
        connection.execute("DELETE FROM t WHERE x <> 'kept'")
    return tmp_path / "db"


@pytest.fixture
def other(file: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        yield connection


def test_unused_space_is_given_back(file: Path) -> None:
    before = file.stat().st_size
    done = vacuum_database(file)
    assert done.complete
    assert done.bytes_given_back == before - file.stat().st_size > BYTES
    assert done.bytes_now == file.stat().st_size
    assert vacuum_database(file).bytes_given_back == 0
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT x FROM t").fetchall() == [("kept",)]


def test_a_reader_goes_on_and_the_rest_follows_when_it_ends(file: Path, other: sqlite3.Connection) -> None:
    other.execute("BEGIN")
    assert other.execute("SELECT count(*) FROM t").fetchone() == (1,)
    assert not vacuum_database(file).complete
    assert other.execute("SELECT x FROM t").fetchall() == [("kept",)]
    other.execute("COMMIT")
    done = vacuum_database(file)
    assert done.complete
    assert file.stat().st_size < BYTES


def test_a_writer_that_does_not_let_go_is_one_sentence(file: Path, other: sqlite3.Connection) -> None:
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseUnusable, match="could not be vacuumed, and is unchanged: database is locked"):
        vacuum_database(file)
    other.execute("ROLLBACK")
    assert vacuum_database(file).complete


def test_what_is_no_database_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"no database" * 100)
    with pytest.raises(DatabaseUnusable, match="not a database"):
        vacuum_database(tmp_path / "text")
    assert (tmp_path / "text").read_bytes() == b"no database" * 100
