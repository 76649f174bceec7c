"""`xtrace serve`: how it starts, stops, and refuses to start."""

import json
import signal
import socket
import stat
import time
from pathlib import Path

import pytest

from support.terminal import Terminal

SERVING = "serving on http://127.0.0.1:"


@pytest.fixture
def shell(shell: Terminal) -> Terminal:
    """A shell in which a server logs for people, although nobody watches."""
    shell.environment["XTRACE_LOG_FORMAT"] = "text"
    return shell


def serve_once(shell: Terminal, stop: signal.Signals) -> dict[str, str]:
    """Starts a server over `data`, stops it, and gives the credentials that were in the file meanwhile."""
    with shell.start("serve --data data --port 0") as server:
        line = server.wait_for(SERVING, error=True).splitlines()[-1]
        credentials: dict[str, str] = json.loads((shell.folder / "data" / "credentials.json").read_text())
        assert f"serving on {credentials['api_url']}" in line
        assert shell("kb list --credentials data/credentials.json").status == 0
        ended = server.stop(stop)
    assert (ended.status, ended.out) == (0, "")
    assert "Traceback" not in ended.err
    return credentials


def test_a_second_start_keeps_the_keys_and_refreshes_the_address(shell: Terminal) -> None:
    first = serve_once(shell, signal.SIGTERM)
    data = shell.folder / "data"
    assert stat.S_IMODE((data / "credentials.json").stat().st_mode) == 0o600
    assert stat.S_IMODE((data / "xtrace.db").stat().st_mode) == 0o600
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    second = serve_once(shell, signal.SIGINT)
    assert second["api_url"] != first["api_url"]
    assert second | {"api_url": ""} == first | {"api_url": ""}
    assert stat.S_IMODE((data / "credentials.json").stat().st_mode) == 0o600
    for text in shell.seen:
        assert first["admin_key"] not in text
        assert first["api_key"] not in text


def test_a_request_in_flight_is_finished(shell: Terminal) -> None:
    with shell.start("serve --data data --port 0") as server:
        server.wait_for(SERVING, error=True)
        credentials = json.loads((shell.folder / "data" / "credentials.json").read_text())
        host, port = credentials["api_url"].removeprefix("http://").split(":")
        body = json.dumps({"name": "notes"}).encode()
        head = (
            f"POST /api/v1/kbs HTTP/1.1\r\nhost: {host}\r\nexpect: 100-continue\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
            f"x-xtrace-key: {credentials['admin_key']}\r\nx-xtrace-org-id: {credentials['org_id']}\r\n\r\n"
        )
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(head.encode())
            assert connection.recv(4096).startswith(b"HTTP/1.1 100")
            server.process.send_signal(signal.SIGTERM)
            wait_until_refused(host, int(port))
            connection.sendall(body)
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        assert server.end().status == 0


def wait_until_refused(host: str, port: int) -> None:
    """Comes back once the server takes no further connections."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            socket.create_connection((host, port), timeout=30).close()
        except ConnectionError:
            return
        time.sleep(0.05)
    raise AssertionError("the server goes on taking connections")


def test_a_port_in_use_is_one_sentence(shell: Terminal) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        shell(f"serve --data data --port {port}").fails(
            f"cannot listen on 127.0.0.1 port {port}: Address already in use\n"
        )


def test_the_environment_gives_what_is_not_on_the_command_line(shell: Terminal) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        settings = {"XTRACE_DATA": "elsewhere", "XTRACE_PORT": port}
        shell("serve", **settings).fails(f"port {port}: Address already in use")
    with shell.start("serve --port 0", **settings) as server:
        server.wait_for(SERVING, error=True)
        assert server.stop().status == 0
    assert (shell.folder / "elsewhere" / "credentials.json").exists()
    assert not (shell.folder / "xtrace-data").exists()


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        ("xtrace.db", "file is not a database"),
        ("credentials.json", "credentials.json does not contain credentials"),
        ("operator.json", "operator.json does not contain credentials"),
    ],
)
def test_a_damaged_file_is_one_sentence_and_stays(shell: Terminal, file: str, sentence: str) -> None:
    serve_once(shell, signal.SIGTERM)
    damaged = shell.folder / "data" / file
    for log in damaged.parent.glob("xtrace.db-*"):
        log.unlink()
    damaged.write_bytes(b"{damaged" * 100)
    shell("serve --data data --port 0").fails(sentence)
    assert damaged.read_bytes() == b"{damaged" * 100


def test_settings_and_folders_that_cannot_be_are_one_sentence(shell: Terminal) -> None:
    shell("serve --port 0", XTRACE_SEARCH_THREADS="some").fails("XTRACE_SEARCH_THREADS is not valid")
    shell("serve --port 0", XTRACE_DATABASE_URL="mysql://x").fails("XTRACE_DATABASE_URL is not valid: expected a URL")
    (shell.folder / "file").write_text("")
    shell("serve --port 0 --data file").fails("file")
    elsewhere = shell("serve --port 0 --host 203.0.113.1")
    assert elsewhere.status == 1
    assert elsewhere.err.endswith("xtrace: cannot listen on 203.0.113.1 port 0: Cannot assign requested address\n")
    assert [path.name for path in Path(shell.folder).iterdir()] == ["file"]
