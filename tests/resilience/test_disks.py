"""A full disk, and one that cannot be written: clean refusals, nothing lost, and the service goes on afterwards."""

import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import Connection, Engine, event

from support.service import Http, chunk, ok, problem, running_service
from support.toy_paillier import toy_key
from xtrace_server.serving import CannotServe, start
from xtrace_server.settings import Settings
from xtrace_server.storage.ballast import Ballast

QUERY = [toy_key().encrypt(1000)]
SMALL, LARGE, HUGE = "3m", "64m", "400m"
BALLAST = 128 * 2**20


def mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting a tmpfs is not allowed here: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount("-t", "tmpfs", "-o", f"size={SMALL}", "tmpfs", str(folder))
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_refuses_writes_answers_reads_and_goes_on_when_there_is_space(disk: Path) -> None:
    with running_service(disk / "data") as service:
        http = Http(service.first_credentials)
        http.save_context()
        kb = http.new_kb()
        stored = 0
        big = [chunk(i, chunk_content="x" * 20_000) for i in range(1, 6)]
        for _ in range(100):
            body = {"kb_id": kb, "context_id": "ctx", "chunks": big}
            answer = http.data("POST", "/chunk/{org}", json=body)
            if answer.status_code != 200:
                break
            stored += len(big)
        assert "nothing was changed" in problem(answer, 507, "storage_full")
        assert answer.headers["retry-after"]
        assert stored > 0
        # What was acknowledged is there, what was refused is not, and nobody who reads notices anything.
        assert len(http.search(kb, QUERY)) == stored
        assert len(http.get(kb, *range(1, stored + 10))) == stored
        assert ok(http.control("GET", f"/kbs/{kb}"))["numberOfVectors"] == stored
        problem(http.data("POST", "/chunk/{org}", json=body), 507, "storage_full")
        mount("-o", f"remount,size={LARGE}", str(disk))
        assert http.insert(kb, big) == list(range(stored + 1, stored + 6))
        http.close()
    with running_service(disk / "data") as service:
        http = Http(service.first_credentials)
        assert len(http.search(kb, QUERY)) == stored + 5
        http.close()


def test_a_full_disk_can_be_emptied_by_deleting(disk: Path) -> None:
    mount("-o", f"remount,size={HUGE}", str(disk))
    with running_service(disk / "data", ballast_bytes=BALLAST) as service:
        http = Http(service.first_credentials)
        http.save_context()
        kb, other = http.new_kb(), http.new_kb()
        http.insert(other, [chunk(1)])
        ballast = disk / "data" / "ballast"
        assert ballast.stat().st_size == BALLAST
        with (disk / "others").open("wb") as others:
            os.posix_fallocate(others.fileno(), 0, shutil.disk_usage(disk).free - 40_000_000)
        body = {"kb_id": kb, "context_id": "ctx", "chunks": [chunk(chunk_content="x" * 1_000_000)]}
        while (answer := http.data("POST", "/chunk/{org}", json=body)).status_code == 200:
            stored = answer.json()["chunk_ids"][0]
        problem(answer, 507, "storage_full")
        fill(disk / "more")
        params = {"kb_id": kb, "chunk_ids": list(range(1, stored + 1))}
        assert ok(http.data("DELETE", "/chunk/{org}", params=params))["deleted_count"] == stored > 10
        while stored_bytes(disk / "data") > 5_000_000:
            time.sleep(0.02)
        assert not ballast.exists()
        # What was deleted makes room for what follows, although the disk is as full as before.
        for i in range(2, 12):
            assert http.insert(other, [chunk(i, chunk_content="x" * 1_000_000)]) == [i]
        ok(http.control("DELETE", f"/kbs/{kb}"))
        http.close()


def test_an_organisation_can_be_deleted_on_a_full_disk(disk: Path) -> None:
    mount("-o", f"remount,size={HUGE}", str(disk))
    with running_service(disk / "data", ballast_bytes=BALLAST) as service:
        http = Http(service.new_organisation())
        http.save_context()
        kb = http.new_kb()
        for i in range(1, 11):
            http.insert(kb, [chunk(i, chunk_content="x" * 1_000_000)])
        fill(disk / "others")
        address = f"{service.url}/api/v1/operator/organisations/{http.org}"
        ok(httpx2.delete(address, headers=service.operator_headers, timeout=60))
        problem(http.control("GET", "/kbs"), 401, "unauthenticated")
        while stored_bytes(disk / "data") or kept_name(disk / "data", http.org):
            time.sleep(0.02)
        http.close()


def kept_name(data: Path, organisation_id: str) -> str:
    """The name of an organisation in the database of the folder; empty once all that it had is deleted."""
    with closing(sqlite3.connect(data / "xtrace.db")) as connection:
        query = "SELECT name FROM organisation WHERE id = ?"
        return str(connection.execute(query, (organisation_id,)).fetchone()[0])


def test_the_ballast_comes_back_when_there_is_space(disk: Path) -> None:
    ballast = Ballast(disk, 500_000)
    file = disk / "ballast"
    fill(disk / "others")
    ballast.make()
    assert not file.exists()
    assert not ballast.give_up()
    (disk / "others").unlink()
    ballast.make()
    assert (file.stat().st_size, file.stat().st_mode & 0o777) == (500_000, 0o600)
    made = file.stat().st_mtime_ns
    ballast.make()
    assert file.stat().st_mtime_ns == made
    assert ballast.give_up()
    assert not file.exists()


def stored_bytes(data: Path) -> int:
    """The contents in the database of the folder."""
    with closing(sqlite3.connect(data / "xtrace.db")) as connection:
        return int(connection.execute("SELECT coalesce(sum(content_bytes), 0) FROM chunk").fetchone()[0])


def fill(file: Path) -> None:
    """Writes until the disk is full."""
    with suppress(OSError), file.open("wb", buffering=0) as opened:
        while True:
            opened.write(bytes(1024))


def test_rows_that_wait_on_a_full_disk_are_a_clean_refusal(disk: Path) -> None:
    with running_service(disk / "data", cache_bytes=0, search_memory_bytes=0) as service:
        http = Http(service.first_credentials)
        http.save_context()
        kb = http.new_kb()
        http.insert(kb, [chunk(i) for i in range(1, 6)])
        assert len(http.search(kb, QUERY)) == 5
        fill(disk / "ballast")
        body = {"kb_id": kb, "context_id": "ctx", "query": []}
        assert http.data("POST", "/compute_hamming/{org}", json=body).status_code == 422
        answer = http.data("POST", "/compute_hamming/{org}", json=body | {"query": chunk()["index"]})
        problem(answer, 507, "storage_full")
        (disk / "ballast").unlink()
        assert len(http.search(kb, QUERY)) == 5
        http.close()


@contextmanager
def every_transaction(statement: str) -> Iterator[None]:
    """Lets every transaction of this process begin with a statement."""

    def run(connection: Connection) -> None:
        connection.exec_driver_sql(statement)

    event.listen(Engine, "begin", run)
    try:
        yield
    finally:
        event.remove(Engine, "begin", run)


def test_a_disk_that_cannot_be_written_refuses_writes_and_answers_reads(tmp_path: Path) -> None:
    # A disk with open files cannot be made read-only by us, as the kernel does it when one fails. SQLite says the same
    # of a connection that may only query.
    with running_service(tmp_path / "data") as service:
        http = Http(service.first_credentials)
        http.save_context()
        kb = http.new_kb()
        http.insert(kb, [chunk()])
        with every_transaction("PRAGMA query_only = ON"):
            body = {"kb_id": kb, "context_id": "ctx", "chunks": [chunk()]}
            problem(http.data("POST", "/chunk/{org}", json=body), 503, "storage_read_only")
            params = {"kb_id": kb, "chunk_ids": 1}
            problem(http.data("DELETE", "/chunk/{org}", params=params), 503, "storage_read_only")
            assert len(http.search(kb, QUERY)) == 1
        with every_transaction("PRAGMA query_only = OFF"):
            assert http.insert(kb, [chunk()]) == [2]
        http.close()


def test_a_read_only_disk_is_one_sentence_at_the_start(disk: Path) -> None:
    with running_service(disk / "data"):
        pass
    before = {path.name: path.read_bytes() for path in (disk / "data").iterdir()}
    mount("-o", "remount,ro", str(disk))
    with pytest.raises(CannotServe, match=r"cannot be used|cannot use") as refusal:
        start(Settings(data=disk / "data", port=0))
    assert "\n" not in str(refusal.value)
    assert {path.name: path.read_bytes() for path in (disk / "data").iterdir()} == before
