"""A backup or a restore that is killed, ended or meets a full disk leaves nothing by half; memory does not grow."""

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from subprocess import Popen

import pytest

from resilience.test_disks import mount
from support.service import Http, chunk, ok, problem, running_service
from support.terminal import COMMAND
from xtrace_server.storage.schema import chunk_pk

COUNT = 20_000
MEBIBYTES = 160
SPARE_BYTES = 40 * 2**20
"""What may be added to the memory of a command over an empty database, of which the largest row here is a fortieth."""
PAGES_BYTES = 64 * 2**20
"""The pages that a restore keeps in memory."""


def filled(folder: Path, count: int, content_characters: int) -> Path:
    """A server's folder with chunks of one knowledge base, made through the service and multiplied in the file."""
    with running_service(folder) as service:
        http = Http(service.first_credentials)
        http.save_context()
        http.insert(http.new_kb(), [chunk(1, name="Notes", meta_data={"tag1": "a", "facets": ["b"]})])
        http.close()
    first = chunk_pk(1, 1)
    with closing(sqlite3.connect(folder / "xtrace.db")) as connection, connection:
        numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
        for table, key in (("chunk", "pk"), ("ciphertext", "pk"), ("content", "pk"), ("facet", "chunk_pk")):
            names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            values = ", ".join(f"{key} + n.i" if name == key else f'"{name}"' for name in names)
            connection.execute(
                f"INSERT INTO {table} {numbers} SELECT {values} FROM {table}, n WHERE {key} = ?", (count - 1, first)
            )
        size = content_characters // 2 * 2
        (size_before,) = connection.execute("SELECT content_bytes FROM chunk WHERE pk = ?", (first,)).fetchone()
        connection.execute(
            "UPDATE knowledge_base SET number_of_vectors = ?, next_chunk_id = ?, stored_bytes = ? * (stored_bytes + ?)",
            (count, count + 1, count, size - size_before),
        )
        connection.execute("UPDATE content SET content = hex(randomblob(?))", (size // 2,))
        connection.execute("UPDATE chunk SET content_bytes = ?", (size,))
    return folder


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with many small chunks."""
    return filled(tmp_path_factory.mktemp("many") / "data", COUNT, 1000)


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, *map(str, words)], capture_output=True, text=True, check=False, timeout=120)


def dump(folder: Path) -> list[str]:
    with closing(sqlite3.connect(folder / "xtrace.db")) as connection:
        return sorted(connection.iterdump())


def begun(process: "Popen[bytes]", folder: Path, pattern: str) -> None:
    """Returns once the process has written a megabyte of something that it will rename."""
    while not any(path.stat().st_size > 2**20 for path in folder.glob(pattern)):
        assert process.poll() is None, "the command ended too early"
        time.sleep(0.001)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_restore_that_is_ended_is_repeated(number: signal.Signals, many: Path, tmp_path: Path) -> None:
    archive, folder = tmp_path / "backup.tar", tmp_path / "restored"
    assert run("backup", archive, "--data", many).returncode == 0
    process = Popen([COMMAND, "restore", archive, "--data", folder], stderr=subprocess.DEVNULL)
    begun(process, folder, ".restoring.*/xtrace.db")
    process.send_signal(number)
    assert process.wait(60) == (-number if number == signal.SIGKILL else 130)
    assert not (folder / "xtrace.db").exists()
    assert folder.exists() == (number == signal.SIGKILL)
    assert run("restore", archive, "--data", folder).returncode == 0
    assert [path.name for path in folder.iterdir()] == ["xtrace.db"]
    assert dump(folder) == dump(many)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_backup_that_is_ended_leaves_no_archive(number: signal.Signals, many: Path, tmp_path: Path) -> None:
    archive = tmp_path / "backups" / "backup.tar"
    process = Popen([COMMAND, "backup", archive, "--data", many], stderr=subprocess.DEVNULL)
    begun(process, archive.parent, ".backup.tar.*")
    process.send_signal(number)
    process.wait(60)
    assert not archive.exists()
    assert bool(list(archive.parent.iterdir())) == (number == signal.SIGKILL)
    assert run("backup", archive, "--data", many).returncode == 0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk that is too small."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount("-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder))
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_one_sentence_and_leaves_nothing(disk: Path, many: Path, tmp_path: Path) -> None:
    assert run("backup", tmp_path / "backup.tar", "--data", many).returncode == 0
    for words in (
        ("backup", disk / "backup.tar", "--data", many),
        ("restore", tmp_path / "backup.tar", "--data", disk / "data"),
    ):
        failed = run(*words)
        assert (failed.returncode, failed.stdout) == (1, "")
        assert failed.stderr.count("\n") == 1
        assert "full" in failed.stderr or "No space left" in failed.stderr
        assert not list(disk.iterdir())


def test_an_import_that_is_killed_is_unseen_and_goes_on(tmp_path: Path) -> None:
    here, archive = filled(tmp_path / "here", 6000, 100), tmp_path / "kb.tar"
    with closing(sqlite3.connect(here / "xtrace.db")) as connection:
        (kb_id,) = connection.execute("SELECT id FROM knowledge_base").fetchone()
    assert run("export", kb_id, archive, "--data", here).returncode == 0
    with running_service(tmp_path / "there") as service, closing(Http(service.first_credentials)) as http:
        database = sqlite3.connect(service.folder / "xtrace.db")
        with closing(database), Popen([COMMAND, "import", archive, "--data", service.folder]) as process:
            while database.execute("SELECT count(*) FROM chunk").fetchone()[0] < 1000:
                assert process.poll() is None, "the command ended too early"
                time.sleep(0.001)
            process.kill()
        problem(http.control("GET", f"/kbs/{kb_id}"), 404, "knowledge_base_not_found")
        assert ok(http.control("GET", "/kbs")) == []
        assert ok(http.data("GET", "/exec_context/{org}"))["contexts"] == []
        assert http.new_kb()
        assert run("import", archive, "--data", service.folder).returncode == 0
        assert len(http.search(kb_id, [b"\1"])) == 6000
        assert http.get(kb_id, 6000)[0]["meta_data"] == {"tag1": "a", "facets": ["b"]}


def peak_bytes(*words: str | Path) -> int:
    """The most memory that a command had. Asked by a small process: a child begins with the peak of its parent."""
    asked = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)"
    printed = "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    done = subprocess.run(
        [sys.executable, "-c", f"{asked}; {printed}", COMMAND, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
        timeout=120,
    )
    return int(done.stdout) * (1 if sys.platform == "darwin" else 1024)


def test_memory_does_not_grow_with_the_database(tmp_path: Path) -> None:
    small, large = (filled(tmp_path / str(count), count, 2**20) for count in (1, MEBIBYTES))
    peaks: dict[Path, list[int]] = {}
    for folder in (small, large):
        archive = folder / "backup.tar"
        peaks[folder] = [
            peak_bytes("backup", archive, "--data", folder),
            peak_bytes("restore", archive, "--check"),
            peak_bytes("restore", archive, "--data", folder / "restored"),
        ]
    assert (large / "backup.tar").stat().st_size > MEBIBYTES * 2**20
    allowed = (SPARE_BYTES, SPARE_BYTES, SPARE_BYTES + PAGES_BYTES)
    for before, after, most in zip(peaks[small], peaks[large], allowed, strict=True):
        assert after < before + most, peaks
