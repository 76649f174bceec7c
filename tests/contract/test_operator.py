"""The operator's routes: organisations, their admin keys, the operator key itself, and what the audit log has of it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from support import databases
from support.service import Http, LiveService, chunk, ok, problem, running_service
from xtrace_core.schemes.registry import SchemeRegistry
from xtrace_server.auth.guard import ON_THE_HOST
from xtrace_server.auth.keys import hash_key
from xtrace_server.credentials import Credentials
from xtrace_server.operations import operator_key
from xtrace_server.storage.imports import Staged

pytestmark = pytest.mark.usefixtures("database")

BASE = "/api/v1/operator"


class Operator:
    """Calls with the operator key; paths begin after the base of the operator's routes."""

    def __init__(self, service: LiveService) -> None:
        self.client = httpx2.Client(base_url=service.url + BASE, headers=service.operator_headers, timeout=60)
        self.url = service.url

    def __call__(self, method: str, path: str, **arguments: Any) -> httpx2.Response:
        return self.client.request(method, path, **arguments)

    def organisation(self, name: str = "tenant") -> Http:
        """A client of a new organisation."""
        made = ok(self("POST", "/organisations", json={"name": name}))
        return Http(Credentials(made["organisation"]["id"], made["adminKey"], made["apiKey"], self.url))


@pytest.fixture
def operator(live_service: LiveService) -> Iterator[Operator]:
    made = Operator(live_service)
    yield made
    made.client.close()


def admin(http: Http, key: str) -> dict[str, str]:
    return {"x-xtrace-key": key, "x-xtrace-org-id": http.org}


def test_a_new_organisation_works_at_once(operator: Operator) -> None:
    made = ok(operator("POST", "/organisations", json={"name": "Research group"}))
    assert set(made) == {"organisation", "adminKey", "apiKey"}
    shown = made["organisation"]
    assert set(shown) == {"id", "name", "state", "createdAt", "suspendedAt", "usage", "quotas"}
    assert (shown["name"], shown["state"], shown["suspendedAt"]) == ("Research group", "active", None)
    assert shown in ok(operator("GET", "/organisations"))
    assert ok(operator("GET", f"/organisations/{shown['id']}")) == shown
    http = Http(Credentials(shown["id"], made["adminKey"], made["apiKey"], operator.url))
    http.save_context()
    assert http.insert(http.new_kb(), [chunk()]) == [1]
    entries = ok(http.control("GET", "/audit"))
    assert [entry["actor"] for entry in entries if entry["action"] == "organisation.create"] == ["operator"]
    http.close()


@pytest.mark.parametrize(
    "body", [{}, {"name": ""}, {"name": 3}, {"name": None}, {"name": "a\0"}, {"name": "x" * 257}, [], "x"]
)
def test_an_organisation_has_a_name(operator: Operator, body: Any) -> None:
    problem(operator("POST", "/organisations", json=body), 422, "invalid")


def test_a_field_that_nobody_knows_is_ignored(operator: Operator) -> None:
    made = ok(operator("POST", "/organisations", json={"name": "n" * 256, "later": {"more": 1}}))
    assert made["organisation"]["name"] == "n" * 256


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("DELETE", ""),
        ("PATCH", "/status/suspend"),
        ("PATCH", "/status/resume"),
        ("GET", "/admin-keys"),
        ("POST", "/admin-keys"),
        ("POST", "/admin-keys/rotate"),
        ("DELETE", f"/admin-keys/{'0' * 64}"),
    ],
)
def test_an_organisation_that_does_not_exist_is_not_found(operator: Operator, method: str, path: str) -> None:
    problem(operator(method, f"/organisations/nobody{path}"), 404, "organisation_not_found")


def test_an_organisation_is_suspended_and_resumed(operator: Operator) -> None:
    http = operator.organisation()
    path = f"/organisations/{http.org}/status"
    since = ok(operator("PATCH", f"{path}/suspend"))["suspendedAt"]
    assert since.endswith("Z")
    assert ok(operator("PATCH", f"{path}/suspend"))["suspendedAt"] == since
    shown = ok(operator("GET", f"/organisations/{http.org}"))
    assert (shown["state"], shown["suspendedAt"]) == ("suspended", since)
    problem(http.control("GET", "/kbs"), 403, "suspended")
    problem(http.data("GET", "/exec_context/{org}"), 403, "suspended")
    assert ok(operator("PATCH", f"{path}/resume"))["suspendedAt"] is None
    ok(http.control("GET", "/kbs"))
    changes = [one for one in ok(http.control("GET", "/audit")) if one["action"].startswith("organisation.")]
    assert [(one["action"], one["actor"]) for one in changes[:2]] == [
        ("organisation.resume", "operator"),
        ("organisation.suspend", "operator"),
    ]
    http.close()


def test_admin_keys_are_created_rotated_and_revoked(operator: Operator) -> None:
    http = operator.organisation()
    keys = f"/organisations/{http.org}/admin-keys"
    first = http.credentials.admin_key
    made = ok(operator("POST", keys))
    assert set(made) == {"adminKey", "secretKey"}
    assert made["adminKey"]["hash"] == hash_key(made["secretKey"])
    listed = ok(operator("GET", keys))
    assert [key["hash"] for key in listed] == [hash_key(first), made["adminKey"]["hash"]]
    assert all(set(key) == {"hash", "createdAt"} for key in listed)
    for key in (first, made["secretKey"]):
        ok(http.control("GET", "/kbs", headers=admin(http, key)))
    rotated = ok(operator("POST", f"{keys}/rotate"))
    for key in (first, made["secretKey"]):
        problem(http.control("GET", "/kbs", headers=admin(http, key)), 401, "unauthenticated")
    current = admin(http, rotated["secretKey"])
    kb = ok(http.control("POST", "/kbs", json={"name": "kb"}, headers=current))["id"]
    assert ok(operator("GET", keys)) == [rotated["adminKey"]]
    assert "admin key" in problem(operator("DELETE", f"{keys}/{hash_key(first)}"), 404, "key_not_found")
    # Without the last one the API keys go on working, and nobody changes the organisation.
    entries = ok(http.control("GET", "/audit", headers=current))
    assert ok(operator("DELETE", f"{keys}/{rotated['adminKey']['hash']}"))["left"] == 0
    problem(http.control("GET", "/kbs", headers=current), 401, "unauthenticated")
    http.save_context()
    assert http.insert(kb, [chunk()]) == [1]
    again = admin(http, ok(operator("POST", keys))["secretKey"])
    assert [one["id"] for one in ok(http.control("GET", "/kbs", headers=again))] == [kb]
    actions = [
        one["action"] for one in ok(http.control("GET", "/audit", headers=again)) if "admin_key" in one["action"]
    ]
    assert actions == [
        "admin_key.create",
        "admin_key.revoke",
        "admin_key.revoke",
        "admin_key.revoke",
        "admin_key.create",
        "admin_key.create",
    ]
    assert {one["actor"] for one in entries if one["action"].startswith("admin_key")} == {"operator"}
    http.close()


def test_an_admin_key_of_another_organisation_is_not_found(operator: Operator) -> None:
    one, other = operator.organisation(), operator.organisation()
    path = f"/organisations/{one.org}/admin-keys/{hash_key(other.credentials.admin_key)}"
    problem(operator("DELETE", path), 404, "key_not_found")
    ok(other.control("GET", "/kbs"))
    one.close()
    other.close()


@pytest.mark.sqlite
def test_no_secret_is_shown_again_or_stored(tmp_path: Path) -> None:
    with running_service(tmp_path / "data") as service:
        operator = Operator(service)
        http = operator.organisation()
        secrets = [http.credentials.admin_key, http.credentials.api_key, *service.operator_headers.values()]
        secrets += [
            ok(operator("POST", f"/organisations/{http.org}/admin-keys{path}"))["secretKey"] for path in ("", "/rotate")
        ]
        shown = operator("GET", "/organisations").text + operator("GET", f"/organisations/{http.org}/admin-keys").text
        shown += operator("GET", "/audit").text + operator("GET", "/audit", params={"organisation_id": http.org}).text
        assert not [secret for secret in secrets if secret in shown]
        stored = [file for file in (tmp_path / "data").iterdir() if file.name.startswith("xtrace.db")]
        assert not [secret for secret in secrets for file in stored if secret.encode() in file.read_bytes()]
        http.close()
        operator.client.close()


def test_the_operator_key_is_replaced_at_once_and_outlives_a_restart(tmp_path: Path) -> None:
    with running_service(tmp_path / "data") as service:
        operator = Operator(service)
        new = ok(operator("POST", "/key/rotate"))
        assert set(new) == {"secretKey"}
        problem(operator("GET", "/organisations"), 401, "unauthenticated")
        operator.client.headers["x-xtrace-operator-key"] = new["secretKey"]
        entries = ok(operator("GET", "/audit"))
        assert [(one["action"], one["subject"]) for one in entries if one["action"].startswith("operator_key")] == [
            ("operator_key.rotate", hash_key(new["secretKey"])),
            ("operator_key.create", hash_key(*service.operator_headers.values())),
        ]
        operator.client.close()
    with running_service(tmp_path / "data") as service:
        operator = Operator(service)
        problem(operator("GET", "/organisations"), 401, "unauthenticated")
        operator.client.headers["x-xtrace-operator-key"] = new["secretKey"]
        ok(operator("GET", "/organisations"))
        operator.client.close()


def test_what_a_replaced_key_began_changes_nothing(tmp_path: Path) -> None:
    with running_service(tmp_path / "data") as service:
        operator = Operator(service)
        body = json.dumps({"name": "late"}).encode()

        def halves() -> Iterator[bytes]:
            yield body[:5]
            # The server has read the headers when it has read these.
            service.operate(lambda database: operator_key.rotate(database, ON_THE_HOST))
            yield body[5:]

        headers = {"content-type": "application/json", "content-length": str(len(body))}
        problem(operator("POST", "/organisations", content=halves(), headers=headers), 401, "unauthenticated")
        assert databases.execute(tmp_path / "data", "SELECT name FROM organisation") == [("default",)]
        operator.client.close()


def test_denials_are_counted_in_the_servers_own_log(tmp_path: Path) -> None:
    with running_service(tmp_path / "data") as service:
        operator, http = Operator(service), Http(service.first_credentials)
        for i in range(20):
            # Whatever organisation a request names, it is not one of it.
            headers = {"x-xtrace-operator-key": f"wrong {i}", "x-xtrace-org-id": http.org}
            problem(operator("GET", "/organisations", headers=headers), 401, "unauthenticated")
        denied = [one for one in ok(operator("GET", "/audit")) if one["action"] == "denied.unauthenticated"]
        assert sum(one["count"] for one in denied) == 20
        assert len(denied) <= 2
        assert {(one["actor"], one["detail"]) for one in denied} == {("unknown", "GET /api/v1/operator/organisations")}
        assert not [one for one in ok(http.control("GET", "/audit")) if one["action"].startswith("denied")]
        http.close()
        operator.client.close()


def test_the_operator_reads_the_audit_log_of_an_organisation(operator: Operator) -> None:
    http = operator.organisation()
    kb = http.new_kb()
    own = ok(http.control("GET", "/audit"))
    assert own[0]["subject"] == kb
    assert ok(operator("GET", "/audit", params={"organisation_id": http.org})) == own
    page = {"organisation_id": http.org, "limit": 1, "before": own[0]["id"]}
    assert ok(operator("GET", "/audit", params=page)) == own[1:2]
    assert kb not in operator("GET", "/audit").text
    problem(operator("GET", "/audit", params={"organisation_id": "nobody"}), 404, "organisation_not_found")
    for wrong in ({"limit": 0}, {"before": "x"}, {"organisation_id": ""}, {"organisation_id": [http.org, http.org]}):
        problem(operator("GET", "/audit", params=wrong), 422, "invalid")
    http.close()


def test_the_operator_key_counts_against_the_rate_limit(tmp_path: Path) -> None:
    with running_service(tmp_path / "data", rate_limit="3/hour") as service:
        operator = Operator(service)
        for _ in range(3):
            ok(operator("GET", "/organisations"))
        problem(operator("GET", "/organisations"), 429, "rate_limited")
        operator.client.close()


def test_without_the_operators_api_there_is_no_key_and_no_route(tmp_path: Path) -> None:
    with running_service(tmp_path / "data", operator_api=False) as service:
        assert not (tmp_path / "data" / "operator.json").exists()
        http = Http(service.first_credentials)
        for headers in ({}, {"x-xtrace-operator-key": http.credentials.admin_key}):
            problem(http.client.get(f"{BASE}/organisations", headers=headers), 404, "not_found")
        http.close()
    with running_service(tmp_path / "data") as service:
        operator = Operator(service)
        ok(operator("GET", "/organisations"))
        operator.client.close()
    with running_service(tmp_path / "data", operator_api=False) as service:
        operator = Operator(service)
        problem(operator("GET", "/organisations"), 404, "not_found")
        operator.client.close()


@pytest.mark.sqlite
def test_a_database_without_its_key_file_keeps_the_key_and_a_new_one_keeps_the_file(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running_service(data) as service:
        headers = service.operator_headers
        (data / "operator.json").rename(tmp_path / "safe.json")
    with running_service(data) as service:
        assert not (data / "operator.json").exists()
        ok(httpx2.get(f"{service.url}{BASE}/organisations", headers=headers))
    (tmp_path / "safe.json").rename(data / "operator.json")
    for file in data.glob("xtrace.db*"):
        file.unlink()
    with running_service(data, new_database=True) as service:
        assert (data / "operator.json.1").exists()
        assert service.operator_headers != headers
        problem(httpx2.get(f"{service.url}{BASE}/organisations", headers=headers), 401, "unauthenticated")


def test_another_port_for_probes_does_not_serve_the_operator(tmp_path: Path, unused_tcp_port: int) -> None:
    with running_service(tmp_path / "data", ops_port=unused_tcp_port) as service:
        address = f"http://127.0.0.1:{unused_tcp_port}{BASE}/organisations"
        problem(httpx2.get(address, headers=service.operator_headers), 404, "not_found")


def test_a_deleted_organisation_is_gone_at_once_for_everybody(operator: Operator) -> None:
    http, other = operator.organisation("doomed"), operator.organisation()
    http.save_context()
    kb = http.new_kb()
    http.insert(kb, [chunk()] * 3)
    path = f"/organisations/{http.org}"
    assert ok(operator("DELETE", path)) == {"id": http.org}
    problem(http.control("GET", "/kbs"), 401, "unauthenticated")
    problem(http.data("GET", "/chunk/{org}", params={"kb_id": kb, "chunk_ids": 1}), 401, "unauthenticated")
    for method, rest in (("GET", ""), ("DELETE", ""), ("PATCH", "/status/resume"), ("POST", "/admin-keys")):
        problem(operator(method, path + rest), 404, "organisation_not_found")
    problem(operator("PATCH", f"{path}/quotas", json={}), 404, "organisation_not_found")
    ok(other.control("GET", "/kbs"))
    problem(other.data("GET", "/chunk/{org}", params={"kb_id": kb, "chunk_ids": 1}), 404, "knowledge_base_not_found")
    while left := [one for one in ok(operator("GET", "/organisations")) if one["id"] == http.org]:
        # Until it has gone, it is shown with the moment of its deletion.
        assert left[0]["deletedAt"] > left[0]["createdAt"]
        assert left[0]["state"] == "deleting"
    # Its log stays, and the server's own has the deletion too.
    kept = ok(operator("GET", "/audit", params={"organisation_id": http.org}))
    assert [(one["action"], one["subject"], one["detail"]) for one in kept[:2]] == [
        ("organisation.delete", http.org, "3 chunks, 1 contexts"),
        ("knowledge_base.create", kb, ""),
    ]
    assert http.org in [
        one["subject"] for one in ok(operator("GET", "/audit")) if one["action"] == "organisation.delete"
    ]
    http.close()
    other.close()


def test_what_a_deleted_organisation_began_stores_nothing(tmp_path: Path) -> None:
    with running_service(tmp_path / "data") as service:
        operator = Operator(service)
        http = operator.organisation()
        http.save_context()
        body = json.dumps({"kb_id": http.new_kb(), "context_id": "ctx", "chunks": [chunk()]}).encode()

        def halves() -> Iterator[bytes]:
            yield body[: len(body) // 2]
            ok(operator("DELETE", f"/organisations/{http.org}"))
            yield body[len(body) // 2 :]

        headers = {"content-type": "application/json", "content-length": str(len(body))}
        problem(http.data("POST", "/chunk/{org}", content=halves(), headers=headers), 401, "unauthenticated")
        assert databases.execute(tmp_path / "data", "SELECT count(*) FROM chunk") == [(0,)]
        http.close()
        operator.client.close()


def test_the_last_organisation_is_deleted_and_no_start_makes_another(tmp_path: Path) -> None:
    with running_service(tmp_path / "data") as service:
        operator = Operator(service)
        ok(operator("DELETE", f"/organisations/{service.first_credentials.org_id}"))
        while ok(operator("GET", "/organisations")):
            pass
        operator.client.close()
    with running_service(tmp_path / "data") as service:
        operator = Operator(service)
        assert ok(operator("GET", "/organisations")) == []
        http = operator.organisation()
        http.new_kb()
        http.close()
        operator.client.close()


def test_an_import_that_is_not_complete_is_no_organisation_to_operate_on(tmp_path: Path) -> None:
    with running_service(tmp_path / "data") as service:
        service.operate(lambda database: Staged(database, SchemeRegistry(), "", "0" * 64).begin())
        operator = Operator(service)
        (staging,) = [one["id"] for one in ok(operator("GET", "/organisations")) if one["state"] == "importing"]
        for method, rest in (("GET", ""), ("DELETE", ""), ("POST", "/admin-keys"), ("PATCH", "/status/suspend")):
            problem(operator(method, f"/organisations/{staging}{rest}"), 404, "organisation_not_found")
        operator.client.close()
