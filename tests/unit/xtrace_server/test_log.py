"""The write-ahead log is written back beside readers and writers, and emptied as soon as none needs it."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from xtrace_server.storage.sqlite import log
from xtrace_server.storage.sqlite.log import Backpressure, log_bytes, truncate_log, write_log_back


def opened(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    connection.execute("PRAGMA wal_autocheckpoint = 0").fetchall()
    return connection


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "test.db"


@pytest.fixture
def writer(file: Path) -> Iterator[sqlite3.Connection]:
    """A connection that has written a megabyte, which is in the log."""
    with closing(opened(file)) as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.executemany("INSERT INTO t VALUES (?)", [(bytes(10_000),)] * 100)
        yield connection


def test_the_log_is_emptied_and_nothing_lost(file: Path, writer: sqlite3.Connection) -> None:
    assert log_bytes(file) > 2**20
    assert truncate_log(file)
    assert log_bytes(file) == 0
    assert truncate_log(file)
    assert writer.execute("SELECT count(*) FROM t").fetchone() == (100,)


def test_a_reader_of_an_older_state_keeps_it_until_it_ends(file: Path, writer: sqlite3.Connection) -> None:
    with closing(opened(file)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM t").fetchone() == (100,)
        writer.execute("DELETE FROM t")
        assert not truncate_log(file)
        assert reader.execute("SELECT count(*) FROM t").fetchone() == (100,)
        reader.execute("COMMIT")
        assert truncate_log(file)


def test_a_long_log_is_written_back_while_somebody_writes(
    file: Path, writer: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "LONG_BYTES", 2**21)
    before = file.stat().st_size
    write_log_back(file)
    assert file.stat().st_size == before, "the log is not long"
    monkeypatch.setattr(log, "LONG_BYTES", 2**20)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("DELETE FROM t")
    write_log_back(file)
    writer.execute("ROLLBACK")
    assert file.stat().st_size > 100 * 10_000
    assert writer.execute("SELECT count(*) FROM t").fetchone() == (100,)


def test_what_cannot_be_done_now_is_said_and_not_raised(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_bytes(b"not a database" * 1000)
    file.with_name("test.db-wal").write_bytes(b"x" * 1000)
    monkeypatch.setattr(log, "LONG_BYTES", 1)
    write_log_back(file)
    assert not truncate_log(file)


def test_a_writer_is_told_when_the_log_has_grown(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "MOST_BYTES", 2**20)
    backpressure = Backpressure(file)
    with closing(opened(file)) as writer:
        writer.execute("CREATE TABLE t (x)")
        assert not backpressure.is_due()
        for _ in range(3):
            writer.executemany("INSERT INTO t VALUES (?)", [(bytes(10_000),)] * 110)
            assert backpressure.is_due()
            assert not backpressure.is_due(), "it was said"
        assert truncate_log(file)
        assert not backpressure.is_due()
        writer.executemany("INSERT INTO t VALUES (?)", [(bytes(10_000),)] * 110)
        assert backpressure.is_due()
