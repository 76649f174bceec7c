"""Large deletions: at once for everybody, step by step on the disk, and nothing of them is left in any file."""

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import httpx2
import msgspec
import pytest

from support.server_process import ServerProcess
from support.service import Http, chunk, ok, problem
from support.toy_paillier import toy_key
from xtrace_server.credentials import Credentials

CHUNKS = 3000
MARK = "deleted-text-that-must-not-stay"
WAIT_S = 60.0
INDEX = chunk()["index"]


@pytest.fixture
def server(tmp_path: Path, unused_tcp_port: int) -> Iterator[ServerProcess]:
    server = ServerProcess(tmp_path, port=unused_tcp_port)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def http(server: ServerProcess) -> Iterator[Http]:
    http = Http(server.credentials)
    yield http
    http.close()


def stocked(http: Http) -> str:
    """A knowledge base of chunks that have the mark in everything, and one chunk that stays."""
    http.save_context()
    kb = http.new_kb()
    for start in range(0, CHUNKS, 1000):
        marked = [
            {
                "index": INDEX,
                "chunk_content": f"{MARK} {i} " * 5,
                "name": f"{MARK} {i}",
                "meta_data": {"tag1": MARK, "facets": [MARK]},
            }
            for i in range(start, start + 1000)
        ]
        http.insert(kb, marked)
    return kb


def with_mark_everywhere(service: ServerProcess) -> Http:
    """A new organisation that has the mark in all that it stores, also in its own name."""
    headers = {"x-xtrace-operator-key": json.loads((service.folder / "operator.json").read_text())["operator_key"]}
    address = f"{service.credentials.api_url}/api/v1/operator/organisations"
    made = ok(httpx2.post(address, json={"name": MARK}, headers=headers))
    credentials = Credentials(made["organisation"]["id"], made["adminKey"], made["apiKey"], service.credentials.api_url)
    http = Http(credentials)
    stocked(http)
    secrets = {"sk": MARK * 1000, "key_provider": MARK, "wrapped_key": MARK}
    for i in range(3):
        data = msgspec.to_builtins(toy_key().context_data) | secrets
        ok(http.data("POST", "/exec_context/{org}", json={"context_id": f"{MARK} {i}", "data": data}))
    ok(http.data("POST", f"/exec_context/{{org}}/{MARK} 0/retire"))
    for i in range(3):
        ok(http.control("POST", "/keys", json={"name": f"{MARK} {i}", "description": MARK}))
        kb = ok(http.control("POST", "/kbs", json={"name": f"{MARK} {i}", "description": MARK}))["id"]
        body = {"kb_id": kb, "context_id": "ctx", "chunks": [chunk(chunk_content=MARK)]}
        ok(http.data("POST", "/chunk/{org}", json=body, headers={"idempotency-key": f"{MARK} {i}"}))
        http.search(kb, [toy_key().encrypt(1)])
    return http


def wait_for(what: Callable[[], bool]) -> None:
    due = time.monotonic() + WAIT_S
    while not what():
        assert time.monotonic() < due, "it did not happen"
        time.sleep(0.05)


def rows_left(folder: Path) -> int:
    with closing(sqlite3.connect(f"{(folder / 'xtrace.db').as_uri()}?mode=ro", uri=True)) as connection:
        return int(connection.execute("SELECT count(*) FROM chunk").fetchone()[0])


def files_with_mark(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir() if file.is_file() and MARK.encode() in file.read_bytes()]


def test_a_deletion_by_metadata_holds_at_once_and_survives_a_kill(server: ServerProcess, http: Http) -> None:
    kb = stocked(http)
    (kept,) = http.insert(kb, [chunk(chunk_content="kept")])
    scope = {"kb_id": kb, "context_id": "ctx", "meta_filter": {"tag1": MARK}}
    assert files_with_mark(server.folder)
    assert ok(http.data("DELETE", "/chunk/by-meta/{org}", json=scope))["deleted_count"] == CHUNKS
    server.kill()
    server.start()
    assert [row[1] for row in http.search(kb, [toy_key().encrypt(1000)])] == [kept]
    assert http.get(kb, 1, CHUNKS) == []
    assert ok(http.data("POST", "/chunk/meta/{org}", json=scope)) == []
    assert ok(http.data("DELETE", "/chunk/by-meta/{org}", json=scope))["deleted_count"] == 0
    assert ok(http.control("GET", f"/kbs/{kb}"))["numberOfVectors"] == 1
    wait_for(lambda: rows_left(server.folder) == 1)
    wait_for(lambda: not files_with_mark(server.folder))


def test_nothing_of_a_deleted_knowledge_base_stays_in_any_file_while_the_server_runs(
    server: ServerProcess, http: Http
) -> None:
    kb = stocked(http)
    http.search(kb, [toy_key().encrypt(1000)])
    ok(http.control("DELETE", f"/kbs/{kb}"))
    problem(http.control("GET", f"/kbs/{kb}"), 404, "knowledge_base_not_found")
    problem(http.control("DELETE", f"/kbs/{kb}"), 404, "knowledge_base_not_found")
    assert ok(http.control("GET", "/kbs")) == []
    ok(http.data("DELETE", "/exec_context/{org}/ctx"))  # nothing is stored under it any more
    wait_for(lambda: rows_left(server.folder) == 0)
    wait_for(lambda: not files_with_mark(server.folder))


@pytest.mark.parametrize("kill", [False, True])
def test_nothing_of_a_deleted_organisation_stays_in_any_file_and_others_keep_theirs(
    server: ServerProcess, http: Http, kill: bool
) -> None:
    http.save_context()
    kb = http.new_kb()
    http.insert(kb, [chunk(chunk_content="kept")])
    doomed = with_mark_everywhere(server)
    assert files_with_mark(server.folder)
    headers = {"x-xtrace-operator-key": json.loads((server.folder / "operator.json").read_text())["operator_key"]}
    address = f"{server.credentials.api_url}/api/v1/operator/organisations/{doomed.org}"
    ok(httpx2.delete(address, headers=headers))
    if kill:
        server.kill()
        server.start()
    problem(doomed.data("GET", "/exec_context/{org}"), 401, "unauthenticated")
    problem(doomed.control("GET", "/kbs"), 401, "unauthenticated")
    wait_for(lambda: rows_left(server.folder) == 1)
    wait_for(lambda: not files_with_mark(server.folder))
    assert [one["chunk_content"] for one in http.get(kb, 1)] == ["kept"]
    with closing(sqlite3.connect(f"{(server.folder / 'xtrace.db').as_uri()}?mode=ro", uri=True)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        owned = [name for name in tables if "organisation_id" in columns(connection, name)]
        of = {
            name: connection.execute(
                f"SELECT count(*) FROM {name} WHERE organisation_id = ?",
                (doomed.org,),
            ).fetchone()[0]
            for name in owned
        }
        assert of.pop("audit") > 0
        assert set(of.values()) == {0}
        assert connection.execute("SELECT count(*) FROM idempotency").fetchone() == (0,)
        (kept,) = connection.execute("SELECT name FROM organisation WHERE id = ?", (doomed.org,))
        assert kept == ("",)
    doomed.close()


def columns(connection: sqlite3.Connection, table: str) -> set[str]:
    return {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
