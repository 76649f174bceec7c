"""A whole database as an archive and back: every table, every row, every number, and nothing by half."""

import os
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from support.database import open_store
from xtrace_core.files import new_file
from xtrace_server.archive.container import ArchiveUnusable
from xtrace_server.archive.manifest import FORMAT, VALUES, VERSION, Manifest
from xtrace_server.archive.reading import ArchiveReader
from xtrace_server.archive.writing import ArchiveWriter
from xtrace_server.storage import archiving
from xtrace_server.storage.archiving import LEFT_OUT, back_up, checked, restore
from xtrace_server.storage.database import open_database
from xtrace_server.storage.dialects import DatabaseUnusable, Dialect, default_url, dialect_of
from xtrace_server.storage.folder_lock import FolderInUse, FolderLock
from xtrace_server.storage.migrating import known_versions, upgrade
from xtrace_server.storage.schema import metadata


def database_in(folder: Path) -> Dialect:
    return dialect_of(default_url(folder))


def lines_of(file: Path) -> list[str]:
    """Everything that a database contains, its schema and its counters too, as SQL."""
    with closing(sqlite3.connect(file)) as connection:
        return sorted(connection.iterdump())


def value_for(kind: object) -> object:
    return 1 if kind == "integer" or isinstance(kind, sa.Integer) else "some"


@pytest.fixture
async def original(tmp_path: Path) -> Path:
    """The file of a database with chunks, facets, gaps in its numbers and every kind of value."""
    async with open_store(tmp_path / "original") as store:
        await store.add([{"tag1": "é", "facets": ["b", "a"]}, {}, {"tag5": ""}], name="Notes")
    with closing(sqlite3.connect(tmp_path / "original" / "test.db")) as connection, connection:
        connection.execute("UPDATE sqlite_sequence SET seq = 7 WHERE name = 'knowledge_base'")  # later ones are deleted
    return tmp_path / "original" / "test.db"


@pytest.fixture
def archive(original: Path, tmp_path: Path) -> Path:
    file = tmp_path / "backups" / "one.tar"
    done = back_up(dialect_of(f"sqlite+aiosqlite:///{original}"), file)
    assert done == checked(file)
    assert done.bytes == file.stat().st_size
    return file


def test_a_restored_database_is_the_same_to_the_last_number(original: Path, archive: Path, tmp_path: Path) -> None:
    folder = tmp_path / "restored"
    assert restore(database_in(folder), folder, archive) == checked(archive)
    assert lines_of(folder / "xtrace.db") == lines_of(original)
    assert any("\"sqlite_sequence\" VALUES('knowledge_base',7)" in line for line in lines_of(original))
    assert [path.name for path in folder.iterdir()] == ["xtrace.db"]
    assert [path.stat().st_mode & 0o777 for path in (folder, folder / "xtrace.db", archive)] == [0o700, 0o600, 0o600]


def test_the_archive_of_a_restored_database_is_the_same_but_for_its_date(archive: Path, tmp_path: Path) -> None:
    folder = tmp_path / "restored"
    restore(database_in(folder), folder, archive)
    back_up(database_in(folder), tmp_path / "again.tar")
    with archive.open("rb") as one, (tmp_path / "again.tar").open("rb") as other:
        assert list(ArchiveReader(one).parts()) == list(ArchiveReader(other).parts())


def test_every_table_and_column_is_archived_or_named_as_left_out(archive: Path) -> None:
    with archive.open("rb") as opened:
        manifest = ArchiveReader(opened).manifest
    described = {table.name: {column.name for column in table.columns} for table in manifest.tables}
    assert described == {
        table.name: set(table.columns.keys()) for table in metadata.tables.values() if table.name not in LEFT_OUT
    }
    assert {column.type for table in manifest.tables for column in table.columns} <= set(VALUES)


async def test_a_new_database_has_no_rows_that_a_restore_would_meet(tmp_path: Path) -> None:
    async with open_database(default_url(tmp_path), tmp_path):
        pass
    back_up(database_in(tmp_path), tmp_path / "empty.tar")
    assert checked(tmp_path / "empty.tar").rows == 0


@pytest.mark.parametrize("version", sorted(known_versions()))
def test_every_older_version_of_the_schema_is_backed_up_and_restored_to_the_newest(
    version: str, original: Path, tmp_path: Path
) -> None:
    older, folder = tmp_path / "older", tmp_path / "newest"
    older.mkdir()
    with database_in(older).draft() as connection:
        upgrade(connection, version)
        organisation = sa.Table("organisation", sa.MetaData(), autoload_with=connection)
        connection.execute(
            organisation.insert(), {column.name: value_for(column.type) for column in organisation.columns}
        )
    back_up(database_in(older), tmp_path / "older.tar")
    assert (tmp_path / "older.tar").read_bytes().count(f'"schema": "{version}"'.encode()) == 1
    assert restore(database_in(folder), folder, tmp_path / "older.tar").rows == 1
    with closing(sqlite3.connect(folder / "xtrace.db")) as restored, closing(sqlite3.connect(original)) as newest:
        schema = "SELECT sql FROM sqlite_master ORDER BY name"
        assert restored.execute(schema).fetchall() == newest.execute(schema).fetchall()


def test_an_archive_does_not_replace_a_file(original: Path, archive: Path) -> None:
    before = archive.read_bytes()
    with pytest.raises(FileExistsError):
        back_up(dialect_of(f"sqlite+aiosqlite:///{original}"), archive)
    assert archive.read_bytes() == before
    with pytest.raises(FileExistsError), new_file(archive, replace=False) as file:
        file.write(b"other")
    assert archive.read_bytes() == before
    assert [path.name for path in archive.parent.iterdir()] == [archive.name]


def test_a_failed_backup_leaves_nothing(original: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(original)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    file = tmp_path / "backups" / "one.tar"
    with pytest.raises(DatabaseUnusable, match="has a version that this version of XTrace does not support"):
        back_up(dialect_of(f"sqlite+aiosqlite:///{original}"), file)
    assert not file.exists()
    assert not list(tmp_path.glob("backups/*"))


@pytest.mark.parametrize("name", ["xtrace.db", "xtrace.db-wal", "xtrace.db-shm", "xtrace.db-journal"])
def test_a_folder_with_anything_of_a_database_is_refused(name: str, archive: Path, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"precious")
    with pytest.raises(DatabaseUnusable, match="name a folder without"):
        restore(database_in(tmp_path), tmp_path, archive)
    assert (tmp_path / name).read_bytes() == b"precious"


def test_a_folder_on_which_a_server_runs_is_refused(archive: Path, tmp_path: Path) -> None:
    with FolderLock(tmp_path, shared=False), pytest.raises(DatabaseUnusable, match="a server runs on"):
        restore(database_in(tmp_path), tmp_path, archive)
    assert not list(tmp_path.glob("xtrace.db*"))


def test_no_server_starts_on_the_folder_while_it_is_restored(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill, tried = archiving.fill, []

    def fill_and_start(*arguments: object) -> None:
        with pytest.raises(FolderInUse), FolderLock(tmp_path, shared=True):
            pass
        tried.append(True)
        fill(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(archiving, "fill", fill_and_start)
    restore(database_in(tmp_path), tmp_path, archive)
    assert tried


def test_credentials_that_are_left_stay_as_they_are(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "credentials.json").write_text("left")
    restore(database_in(tmp_path), tmp_path, archive)
    assert (tmp_path / "credentials.json").read_text() == "left"


def test_flipped_bytes_are_refused_before_anything_is_written(archive: Path, tmp_path: Path) -> None:
    folder, sound = tmp_path / "restored", archive.read_bytes()
    dice = random.Random(1)
    for position in {0, len(sound) - 1, *(dice.randrange(len(sound)) for _ in range(150))}:
        flipped = bytearray(sound)
        flipped[position] ^= 1 << dice.randrange(8)
        archive.write_bytes(flipped)
        with pytest.raises(ArchiveUnusable):
            restore(database_in(folder), folder, archive)
        assert not folder.exists()


def refuses(tmp_path: Path, why: str) -> None:
    folder = tmp_path / "restored"
    with pytest.raises(ArchiveUnusable, match=why):
        restore(database_in(folder), folder, tmp_path / "forged.tar")
    assert not folder.exists()


@pytest.mark.parametrize("names", [["admin_key"], ["organisation", "organisation"]])
def test_rows_that_belong_to_nothing_or_are_there_twice_are_refused(
    names: list[str], archive: Path, tmp_path: Path
) -> None:
    with archive.open("rb") as opened:
        tables = ArchiveReader(opened).manifest.tables
    rows = {table.name: tuple(value_for(column.type) for column in table.columns) for table in tables}
    manifest = Manifest(FORMAT, VERSION, "backup", "", "", max(known_versions()), tables)
    with (tmp_path / "forged.tar").open("wb") as file, ArchiveWriter(file, manifest) as writer:
        for name in names:
            writer.add(name, rows[name])
    refuses(tmp_path, "its rows are inconsistent")


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"schema": "9999"}, "written by a newer version of XTrace"),
        ({"kind": "knowledge_base"}, "not a backup"),
        ({"tables": ()}, "its tables are not those"),
    ],
)
def test_an_archive_of_another_kind_or_schema_is_refused(changed: dict[str, object], why: str, tmp_path: Path) -> None:
    fields = {"format": FORMAT, "version": VERSION, "kind": "backup", "created_at": "", "written_by": ""}
    manifest = Manifest(**{**fields, "schema": max(known_versions()), "tables": (), **changed})  # type: ignore[arg-type]
    with (tmp_path / "forged.tar").open("wb") as file, ArchiveWriter(file, manifest):
        pass
    refuses(tmp_path, why)


def test_an_archive_that_changes_after_its_check_is_refused(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, check_once = tmp_path / "restored", archiving._checked

    def check_and_change(opened: object) -> object:
        done = check_once(opened)  # type: ignore[arg-type]
        with archive.open("r+b") as file:
            file.seek(-1500, os.SEEK_END)
            file.write(b"X")
        return done

    monkeypatch.setattr(archiving, "_checked", check_and_change)
    with pytest.raises(ArchiveUnusable):
        restore(database_in(folder), folder, archive)
    assert not folder.exists()
