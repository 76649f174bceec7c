"""Starting over a damaged, foreign, newer or locked database is refused in one sentence, and changes nothing."""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from support.older_schema import make_older
from support.service import Http, chunk, running_service
from xtrace_server.serving import CannotServe, start
from xtrace_server.settings import Settings
from xtrace_server.storage.sqlite import integrity


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a database of some size, which nobody has open."""
    folder = tmp_path_factory.mktemp("sound") / "data"
    with running_service(folder) as service:
        http = Http(service.first_credentials)
        http.save_context()
        http.insert(http.new_kb(), [chunk(i, chunk_content="y" * 5000) for i in range(1, 100)])
        http.close()
    return folder


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "data"))


def refused(folder: Path, words: str) -> None:
    """The start is refused with one sentence, and no file has changed."""
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(CannotServe, match=words) as refusal:
        start(Settings(data=folder, port=0))
    assert "\n" not in str(refusal.value)
    after = {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith("-shm")}
    assert {name: held for name, held in after.items() if held or name in before} == before


def cut_off(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.truncate(file.stat().st_size // 2)


def overwrite_a_page(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.seek(4096 * 3)
        opened.write(b"\xaa" * 4096)


def overwrite_the_schema(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.seek(100)
        opened.write(b"\xff" * 1000)


def another_program(file: Path) -> None:
    file.unlink()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE songs (title TEXT)")
        connection.commit()


def newer(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (cut_off, "damaged"),
        (overwrite_a_page, "damaged"),
        (overwrite_the_schema, "damaged|cannot be used"),
        (another_program, "another program"),
        (newer, "newer version"),
    ],
)
def test_a_database_that_cannot_be_used_is_one_sentence_and_stays(
    folder: Path, change: Callable[[Path], None], words: str
) -> None:
    change(folder / "xtrace.db")
    refused(folder, words)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integrity, "_PATIENCE_S", 0.2)


@pytest.fixture
def lock(folder: Path) -> Iterator[None]:
    """Another process that keeps the database to itself, as a backup or an old version may."""
    with closing(sqlite3.connect(folder / "xtrace.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE").fetchall()
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")


def test_a_locked_database_is_one_sentence(folder: Path, lock: None, impatient: None) -> None:
    refused(folder, "locked by another process")


def test_an_empty_file_is_a_new_database(tmp_path: Path) -> None:
    (tmp_path / "xtrace.db").touch()
    with running_service(tmp_path) as service:
        assert service.first_credentials.api_key


def test_a_database_of_the_version_before_is_brought_up_to_date(folder: Path) -> None:
    make_older(folder / "xtrace.db")
    with running_service(folder) as service:
        http = Http(service.first_credentials)
        assert http.control("GET", "/audit").json() == []
        http.new_kb()
        assert len(http.control("GET", "/audit").json()) == 1
        http.close()


def test_credentials_without_their_database_are_no_first_start(folder: Path, tmp_path: Path) -> None:
    for path in folder.glob("xtrace.db*"):
        path.rename(tmp_path / path.name)  # the volume that is not mounted
    refused(folder, "is a volume not mounted.*--new-database")
    assert sorted(path.name for path in folder.iterdir()) == ["credentials.json", "operator.json"]
    lost = (folder / "credentials.json").read_bytes()
    with running_service(folder, new_database=True) as service:
        http = Http(service.first_credentials)
        http.new_kb()
        http.close()
    assert (folder / "credentials.json.1").read_bytes() == lost
    new = (folder / "credentials.json").read_bytes()
    assert new != lost
    for path in folder.glob("xtrace.db*"):
        path.unlink()
    with running_service(folder, new_database=True):
        assert (folder / "credentials.json.2").read_bytes() == new
        assert (folder / "credentials.json.1").read_bytes() == lost
    (folder / "credentials.json").unlink()  # kept elsewhere: a start needs none
    with running_service(folder) as service:
        assert not (folder / "credentials.json").exists()


def test_credentials_that_are_in_the_way_of_a_first_start_are_kept(folder: Path) -> None:
    held = (folder / "credentials.json").read_bytes()
    for path in folder.glob("xtrace.db*"):
        path.unlink()
    (folder / "xtrace.db").touch(mode=0o600)  # an empty file: nothing was stored
    with running_service(folder):
        assert (folder / "credentials.json.1").read_bytes() == held
