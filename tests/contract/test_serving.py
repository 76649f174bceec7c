"""Starting and stopping: credentials, permissions of files, what survives, what is refused."""

import json
import re
import socket
import sqlite3
import stat
import time
from http.client import HTTPConnection
from pathlib import Path

import pytest

from support import databases
from support.service import Http, LiveService, chunk, ok, running_service
from xtrace_server.serving import CannotServe, start
from xtrace_server.settings import Settings

pytestmark = pytest.mark.usefixtures("database")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_first_start_writes_credentials_and_a_later_one_the_new_url(tmp_path: Path, database: str) -> None:
    folder = tmp_path / "deep" / "data"
    with running_service(folder) as service:
        first = service.first_credentials
        assert first.api_url == service.url
        http = Http(first)
        http.save_context()
        kb = http.new_kb()
        http.insert(kb, [chunk()])
        http.close()
        of_sqlite = ["xtrace.db", "xtrace.db-wal"] if database == databases.SQLITE else []
        for name in ["credentials.json", "operator.json", *of_sqlite]:
            assert mode(folder / name) == 0o600
        assert mode(folder) == 0o700
        assert set(json.loads((folder / "credentials.json").read_text())) == {
            "org_id",
            "admin_key",
            "api_key",
            "api_url",
        }
        operator = json.loads((folder / "operator.json").read_text())
        assert operator == {"operator_key": operator["operator_key"], "api_url": service.url}
    with running_service(folder) as service:
        assert json.loads((folder / "operator.json").read_text()) == operator | {"api_url": service.url}
        again = service.first_credentials
        assert again.api_url == service.url != first.api_url
        assert (again.org_id, again.api_key, again.admin_key) == (
            first.org_id,
            first.api_key,
            first.admin_key,
        )
        http = Http(again)
        assert len(http.get(kb, 1)) == 1
        http.close()


def test_keys_are_nowhere_but_in_the_credentials(tmp_path: Path) -> None:
    with running_service(tmp_path / "data") as service:
        credentials = service.first_credentials
        http = Http(credentials)
        ok(http.control("POST", "/keys", json={"name": "x"}))
        http.close()
    for path in (tmp_path / "data").glob("xtrace.db*"):
        held = path.read_bytes()
        assert credentials.admin_key.encode() not in held
        assert credentials.api_key.encode() not in held
    assert credentials.api_key not in repr(credentials)


@pytest.mark.sqlite
def test_a_deleted_chunk_leaves_the_database_file(tmp_path: Path) -> None:
    with running_service(tmp_path / "data") as service:
        http = Http(service.first_credentials)
        http.save_context()
        kb = http.new_kb()
        http.insert(kb, [chunk() | {"chunk_content": "unmistakable " * 50}])
        ok(http.data("DELETE", "/chunk/{org}", params={"kb_id": kb, "chunk_ids": 1}))
        http.close()
    path = tmp_path / "data" / "xtrace.db"
    assert b"unmistakable" not in path.read_bytes()
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT count(*) FROM ciphertext").fetchone() == (0,)
    connection.close()


@pytest.mark.sqlite
def test_a_taken_port_is_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotServe, match=f"cannot listen on 127.0.0.1 port {port}"):
            start(Settings(data=tmp_path, port=port))


@pytest.mark.sqlite
@pytest.mark.parametrize(
    ("content", "words"), [(b"this is no database, " * 100, "cannot be used"), (None, "newer version")]
)
def test_a_foreign_or_newer_database_is_refused_unchanged(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "xtrace.db"
    if content is None:
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
            connection.execute("INSERT INTO alembic_version VALUES ('9999')")
        connection.close()
    else:
        path.write_bytes(content)
    with pytest.raises(CannotServe, match=words):
        start(Settings(data=tmp_path, port=0))
    if content is None:
        with sqlite3.connect(path) as connection:
            assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (1,)
        connection.close()
    else:
        assert path.read_bytes() == content


def test_a_data_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotServe, match="data folder"):
        start(Settings(data=tmp_path / "file" / "data", port=0))


def test_beyond_loopback_without_tls_is_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with running_service(tmp_path / "a", host="0.0.0.0") as service:  # noqa: S104 - what is tested
        assert "without TLS" in caplog.text
        assert service.url.startswith("http://127.0.0.1:")
    caplog.clear()
    with running_service(tmp_path / "b"):
        assert "without TLS" not in caplog.text


def test_an_idle_connection_outlives_the_clients_that_pool_it(tmp_path: Path) -> None:
    assert Settings().keep_alive_s >= 75
    request = b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n"
    with (
        running_service(tmp_path, keep_alive_s=0.2) as service,
        socket.create_connection(service.address) as connection,
    ):
        for _ in range(2):  # the second on the same connection
            connection.sendall(request)
            answer = b""
            while not answer.endswith(b"}"):  # the body may come in a segment of its own
                answer += connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200")
        connection.settimeout(60)
        assert connection.recv(1) == b""  # the server closes it


@pytest.mark.full
@pytest.mark.long
@pytest.mark.sqlite  # the database plays no part in fifteen seconds of silence
def test_a_client_that_pools_for_15_seconds_loses_no_request(tmp_path: Path) -> None:
    with running_service(tmp_path) as service:
        connection = HTTPConnection(service.url.removeprefix("http://"))  # sends on whatever it has, and never again
        for pause_s in (0, 14.9):
            time.sleep(pause_s)
            connection.request("GET", "/livez")
            answer = connection.getresponse()
            assert (answer.status, answer.will_close) == (200, False)
            answer.read()
        connection.close()


def test_ids_of_knowledge_bases_fit_a_table_and_come_once(live_service: LiveService) -> None:
    http, other = Http(live_service.new_organisation()), Http(live_service.new_organisation())
    made = [client.new_kb() for client in (http, other) for _ in range(30)]
    http.close()
    other.close()
    assert len(set(made)) == 60
    assert all(re.fullmatch("[2-9a-km-np-z]{12}", kb_id) for kb_id in made)
