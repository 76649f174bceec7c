"""A database of an older version is backed up before its schema changes, and one of a newer version is refused."""

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from support.service import running_service
from xtrace_server.serving import CannotServe
from xtrace_server.storage import before_migration
from xtrace_server.storage.archiving import checked, restore
from xtrace_server.storage.before_migration import FOLDER
from xtrace_server.storage.dialects import default_url, dialect_of
from xtrace_server.storage.migrating import newest_version, upgrade

OLDER = "0002"


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """The data folder of a server of an older version, with one organisation."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    with dialect_of(default_url(folder)).draft() as connection:
        upgrade(connection, OLDER)
        organisation = sa.Table("organisation", sa.MetaData(), autoload_with=connection)
        connection.execute(organisation.insert(), {column.name: "1" for column in organisation.columns})
    return folder


def version_of(folder: Path) -> str:
    with closing(sqlite3.connect(folder / "xtrace.db")) as connection:
        return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])


def test_an_older_database_is_backed_up_then_migrated(
    older: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "xtrace")
    with running_service(older):
        assert version_of(older) == newest_version()
    (backup,) = (older / FOLDER).iterdir()
    assert (backup.stat().st_mode & 0o777, backup.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert backup.name.startswith(f"schema-{OLDER}-")
    assert checked(backup).rows == 1
    said = caplog.text
    assert f"the database has schema {OLDER}, this version needs {newest_version()}: backing up first" in said
    assert f"wrote {backup} (1 rows" in said
    with running_service(older):
        assert list((older / FOLDER).iterdir()) == [backup]  # nothing was migrated
    restore(dialect_of(default_url(tmp_path / "back")), tmp_path / "back", backup)
    assert version_of(tmp_path / "back") == newest_version()


def test_without_room_for_the_backup_nothing_changes(older: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(before_migration, "_SPARE_BYTES", 2**60)
    sentence = r"make room, or write a backup elsewhere .*backup_before_migration=false"
    with pytest.raises(CannotServe, match=sentence), running_service(older):
        pass
    assert version_of(older) == OLDER
    with running_service(older, backup_before_migration=False):
        assert version_of(older) == newest_version()
    assert list((older / FOLDER).iterdir()) == []


def test_a_new_database_needs_no_backup(tmp_path: Path) -> None:
    with running_service(tmp_path):
        assert version_of(tmp_path) == newest_version()
    assert not (tmp_path / FOLDER).exists()


def test_a_newer_database_says_so(tmp_path: Path) -> None:
    with running_service(tmp_path):
        pass
    with closing(sqlite3.connect(tmp_path / "xtrace.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    sentence = "was written by a newer version of XTrace or by another program"
    with pytest.raises(CannotServe, match=sentence), running_service(tmp_path):
        pass
    assert version_of(tmp_path) == "9999"
