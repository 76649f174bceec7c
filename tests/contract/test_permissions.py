"""Every route against every kind of caller. A route that is not in the tables here fails the test."""

from hashlib import sha256
from typing import Any

import msgspec
import pytest

from support.sealing import lattice_data
from support.service import Http, LiveService, b64, chunk, ok, problem
from support.toy_paillier import toy_key
from xtrace_sdk.x_vec.schemes.interface import SchemeParameters
from xtrace_sdk.x_vec.schemes.lattice.scheme import LatticeClient
from xtrace_server.app import all_routes, create_app
from xtrace_server.auth.keys import new_key
from xtrace_server.settings import Settings

POSTGRES_BY_DEFAULT = True

QUERY = [b64(toy_key().encrypt(1))]
LATTICE = LatticeClient.create(4, SchemeParameters())
BLOCK = LATTICE.blocks.seal([[0, 1, 1, 0]], "kb")
SEALED = {"header": b64(BLOCK.header), "hints": b64(BLOCK.hints), "body": b64(BLOCK.body), "replaces": []}

SEGMENT = b"sealed"
INDEX = {"context_id": "ctx", "kind": "records"}

# method, path, permission needed on the knowledge base (0: any key), how the knowledge base is named, arguments;
# where it is not named, it is the one that the context is bound to. test_contexts.py has what else counts for contexts.
DATA: list[tuple[str, str, int, str, dict[str, Any]]] = [
    ("POST", "/chunk/{org}", 3, "body", {"context_id": "ctx", "chunks": []}),
    ("GET", "/chunk/{org}", 1, "query", {}),
    ("PUT", "/chunk/{org}", 3, "body", {"context_id": "ctx", "chunk_updates": []}),
    ("PATCH", "/chunk/{org}", 3, "body", {"context_id": "ctx", "chunk_patches": []}),
    ("DELETE", "/chunk/{org}", 7, "query", {}),
    ("POST", "/chunk/names/{org}", 1, "body", {"context_id": "ctx", "names": []}),
    ("POST", "/local/changes/{org}", 1, "body", {"context_id": "ctx", "since": 0}),
    ("GET", "/local/index/{org}", 1, "query", INDEX),
    ("PUT", "/local/index/{org}", 3, "body", {**INDEX, "replaces": 0, "manifest": "", "segments": []}),
    ("DELETE", "/local/index/{org}", 3, "query", INDEX),
    ("GET", "/local/segment/{org}", 1, "query", {**INDEX, "sha256": sha256(SEGMENT).hexdigest()}),
    ("POST", "/local/segment/{org}", 3, "octets", INDEX),
    ("POST", "/compute_hamming/{org}", 1, "body", {"context_id": "ctx", "query": QUERY}),
    ("POST", "/compute_hamming_batch/{org}", 1, "body", {"context_id": "ctx", "queries": [QUERY]}),
    ("POST", "/block/plan/{org}", 1, "body", {"context_id": "lattice"}),
    ("POST", "/block/search/{org}", 1, "body", {"context_id": "lattice", "queries": [b64(BLOCK.body)]}),
    ("GET", "/block/{org}", 1, "query", {"context_id": "lattice", "block_ids": [1]}),
    ("POST", "/block/{org}", 3, "body", {"context_id": "lattice", "chunk_ids": [1], "nonces": [""], **SEALED}),
    ("DELETE", "/block/{org}", 3, "query", {"context_id": "lattice", "block_ids": [1]}),
    ("POST", "/chunk/meta/{org}", 1, "body", {"context_id": "ctx", "meta_filter": {}}),
    ("POST", "/chunk/meta/page/{org}", 1, "body", {"context_id": "ctx"}),
    ("DELETE", "/chunk/by-meta/{org}", 7, "body", {"context_id": "ctx", "meta_filter": {}}),
    ("PATCH", "/chunk/by-meta/{org}", 3, "body", {"context_id": "ctx", "meta_filter": {}, "patch": {}}),
    ("POST", "/exec_context/{org}", 1, "none", {}),
    ("GET", "/exec_context/{org}", 0, "none", {}),
    ("GET", "/exec_context/{org}/{context_id}", 1, "none", {}),
    ("DELETE", "/exec_context/{org}/{context_id}", 7, "none", {}),
    ("GET", "/exec_context/{org}/{kb_id}/context", 1, "path", {}),
    ("GET", "/exec_context/{org}/{context_id}/kb", 0, "none", {}),
    ("POST", "/exec_context/{org}/{kb_id}/bind/{context_id}", 3, "path", {}),
    ("GET", "/exec_context/{org}/{kb_id}/name_salt/{context_id}", 1, "path", {}),
    ("PUT", "/exec_context/{org}/{kb_id}/name_salt/{context_id}", 3, "path", {"salt": b64(b"salt")}),
    ("GET", "/exec_context_name/{org}/{name}", 1, "none", {}),
    ("POST", "/exec_context/{org}/{context_id}/retire", 7, "none", {}),
    ("GET", "/exec_context/{org}/{context_id}/successor", 1, "none", {}),
    ("PUT", "/exec_context/{org}/{context_id}/successor", 3, "none", {"successor": "other"}),
]
CONTROL: list[tuple[str, str, Any]] = [
    ("POST", "/kbs", {"name": "x"}),
    ("GET", "/kbs", None),
    ("GET", "/kbs/{kb_id}", None),
    ("DELETE", "/kbs/{kb_id}", None),
    ("POST", "/keys", {"name": "x"}),
    ("GET", "/keys", None),
    ("GET", "/keys/{key_hash}/permissions", None),
    ("PUT", "/keys/{key_hash}/permissions/{kb_id}", {"permission": 1}),
    ("PATCH", "/keys/{key_hash}", {"name": "x"}),
    ("DELETE", "/keys/{key_hash}", None),
    ("PATCH", "/keys/{key_hash}/status/revoke", None),
    ("GET", "/audit", None),
    ("GET", "/organisation", None),
]
OPERATOR: list[tuple[str, str, Any]] = [
    ("POST", "/organisations", {"name": "x"}),
    ("GET", "/organisations", None),
    ("GET", "/organisations/{organisation_id}", None),
    ("DELETE", "/organisations/{organisation_id}", None),
    ("PATCH", "/organisations/{organisation_id}/quotas", {"chunks": None}),
    ("PATCH", "/organisations/{organisation_id}/status/suspend", None),
    ("PATCH", "/organisations/{organisation_id}/status/resume", None),
    ("GET", "/organisations/{organisation_id}/admin-keys", None),
    ("POST", "/organisations/{organisation_id}/admin-keys", None),
    ("POST", "/organisations/{organisation_id}/admin-keys/rotate", None),
    ("DELETE", "/organisations/{organisation_id}/admin-keys/{key_hash}", None),
    ("POST", "/key/rotate", None),
    ("GET", "/audit", None),
]
PUBLIC = {("GET", "/livez"), ("GET", "/readyz"), ("GET", "/metrics"), ("GET", "/openapi.json")}


def test_every_route_is_in_the_tables() -> None:
    routes = {(method, route.path) for route in all_routes() for method in (route.methods or set()) - {"HEAD"}}
    covered = {(method, "/v1" + path) for method, path, *_ in DATA}
    covered |= {(method, "/api/v1" + path) for method, path, _ in CONTROL}
    covered |= {(method, "/api/v1/operator" + path) for method, path, _ in OPERATOR}
    assert routes == covered | PUBLIC


def test_the_application_has_no_other_routes() -> None:
    app = create_app(Settings())
    paths = [route.path for route in app.routes if hasattr(route, "path")]
    assert paths == []


def call(
    http: Http, case: tuple[str, str, int, str, dict[str, Any]], kb: str, headers: dict[str, str], org: str = ""
) -> Any:
    method, path, _, where, body = case
    path = (
        path.replace("{kb_id}", kb)
        .replace("{context_id}", "ctx")
        .replace("{name}", "named")
        .replace("{org}", org or http.org)
    )
    arguments: dict[str, Any] = {"headers": headers}
    if where == "query":
        arguments["params"] = {"kb_id": kb, "chunk_ids": [1], **body}
    elif where == "octets":
        arguments |= {"params": {"kb_id": kb, **body}, "content": SEGMENT}
        arguments["headers"] = {"content-type": "application/octet-stream", **headers}
    elif where == "body":
        arguments["json"] = {"kb_id": kb, **body}
    elif method == "POST" and where == "none":
        arguments["json"] = {"context_id": "new", "data": vars_of_context()}
    elif body:
        arguments["json"] = body
    return http.client.request(method, "/v1" + path, **arguments)


def vars_of_context() -> dict[str, str]:
    data = toy_key().context_data
    return {"type": data.type, "pk": data.pk, "config": data.config}


@pytest.mark.parametrize("case", DATA, ids=lambda case: f"{case[0]} {case[1]}")
def test_a_data_route_needs_its_permission(http: Http, live_service: LiveService, case: Any) -> None:
    http.save_context()
    kb = http.new_kb()
    http.insert(kb, [chunk()])
    ok(http.data("POST", "/exec_context/{org}", json={"context_id": "n", "data": vars_of_context(), "name": "named"}))
    ok(http.data("POST", f"/exec_context/{{org}}/{kb}/bind/n"))
    lattice = msgspec.to_builtins(lattice_data(LATTICE))
    ok(http.data("POST", "/exec_context/{org}", json={"context_id": "lattice", "data": lattice}))
    octets = {"content-type": "application/octet-stream"}
    ok(http.data("POST", "/local/segment/{org}", params={"kb_id": kb, **INDEX}, content=SEGMENT, headers=octets))
    made = ok(http.control("POST", "/keys", json={"name": "limited"}))
    headers = {"x-api-key": made["secretKey"]}
    needed = case[2]
    for level in (0, 1, 3, 7):
        path = f"/keys/{made['apiKey']['hash']}/permissions/{kb}"
        ok(http.control("PUT", path, json={"permission": level}))
        answer = call(http, case, kb, headers)
        if level < needed:
            assert "permission" in problem(answer, 403, "forbidden")
        else:
            assert answer.status_code in (200, 409), answer.text
    if case[3] != "none":
        problem(call(http, case, "unknown", http.data_headers), 404, "knowledge_base_not_found")
        other = Http(live_service.new_organisation())
        problem(call(http, case, other.new_kb(), http.data_headers), 404, "knowledge_base_not_found")
        other.close()


def test_a_refusal_says_which_grant_is_in_the_way(http: Http) -> None:
    kb = http.new_kb()
    made = ok(http.control("POST", "/keys", json={"name": "new"}))
    without = {"x-api-key": made["secretKey"]}
    detail = problem(http.data("GET", "/chunk/{org}", params={"kb_id": kb}, headers=without), 403, "forbidden")
    assert "its default permission is 0, and none is set for this knowledge base" in detail
    (first,) = [key for key in ok(http.control("GET", "/keys")) if key["hash"] != made["apiKey"]["hash"]]
    ok(http.control("PUT", f"/keys/{first['hash']}/permissions/{kb}", json={"permission": 3}))
    detail = problem(http.data("DELETE", "/chunk/{org}", params={"kb_id": kb, "chunk_ids": 1}), 403, "forbidden")
    assert "is set to 3, which goes before its default of 7" in detail
    assert "sets 7 with PUT /api/v1/keys/{hash}/permissions/{kb_id}" in detail
    ok(http.control("PUT", f"/keys/{first['hash']}/permissions/{kb}", json={"permission": 7}))
    ok(http.data("DELETE", "/chunk/{org}", params={"kb_id": kb, "chunk_ids": 1}))


@pytest.mark.parametrize("case", DATA, ids=lambda case: f"{case[0]} {case[1]}")
def test_a_data_route_refuses_every_wrong_key(http: Http, live_service: LiveService, case: Any) -> None:
    made = ok(http.control("POST", "/keys", json={"name": "revoked"}))
    ok(http.control("DELETE", f"/keys/{made['apiKey']['hash']}"))
    other = live_service.new_organisation()
    key = http.credentials.api_key
    for wrong in ("", "x", key[:-1] + "!", key.swapcase(), made["secretKey"], other.api_key, other.admin_key):
        problem(call(http, case, "kb", {"x-api-key": wrong}), 401, "unauthenticated")
    problem(call(http, case, "kb", {}), 401, "unauthenticated")
    problem(call(http, case, "kb", http.data_headers, org=other.org_id), 401, "unauthenticated")
    problem(call(http, case, "kb", http.control_headers), 401, "unauthenticated")
    operator_key = live_service.operator_headers["x-xtrace-operator-key"]
    problem(call(http, case, "kb", {"x-api-key": operator_key}), 401, "unauthenticated")
    problem(call(http, case, "kb", live_service.operator_headers), 401, "unauthenticated")


@pytest.mark.parametrize("case", CONTROL, ids=lambda case: f"{case[0]} {case[1]}")
def test_a_control_route_opens_to_its_admin_key_only(http: Http, live_service: LiveService, case: Any) -> None:
    method, path, body = case
    made = ok(http.control("POST", "/keys", json={"name": "some"}))
    path = "/api/v1" + path.replace("{kb_id}", http.new_kb()).replace("{key_hash}", made["apiKey"]["hash"])
    other = live_service.new_organisation()
    org = {"x-xtrace-org-id": http.org}
    for headers in (
        {},
        org,
        {"x-xtrace-key": http.credentials.admin_key},
        org | {"x-xtrace-key": other.admin_key},
        org | {"x-xtrace-key": http.credentials.api_key},
        org | http.data_headers,
        org | live_service.operator_headers,
        org | {"x-xtrace-key": live_service.operator_headers["x-xtrace-operator-key"]},
        {"x-xtrace-org-id": other.org_id, "x-xtrace-key": http.credentials.admin_key},
    ):
        answer = http.client.request(method, path, headers=headers, json=body)
        problem(answer, 401, "unauthenticated")
    ok(http.client.request(method, path, headers=http.control_headers, json=body))


@pytest.mark.parametrize("case", OPERATOR, ids=lambda case: f"{case[0]} {case[1]}")
def test_an_operator_route_opens_to_the_operator_key_only(http: Http, live_service: LiveService, case: Any) -> None:
    method, path, body = case
    path = "/api/v1/operator" + path.replace("{organisation_id}", http.org).replace("{key_hash}", "0" * 64)
    genuine = live_service.operator_headers["x-xtrace-operator-key"]
    for headers in (
        {},
        http.data_headers,
        http.control_headers,
        {"x-api-key": genuine},
        {"x-xtrace-key": genuine, "x-xtrace-org-id": http.org},
        *[{"x-xtrace-operator-key": wrong} for wrong in ("", "x", genuine[:-1] + "!", genuine.swapcase(), new_key())],
        {"x-xtrace-operator-key": http.credentials.api_key},
        {"x-xtrace-operator-key": http.credentials.admin_key, "x-xtrace-org-id": http.org},
    ):
        problem(http.client.request(method, path, headers=headers, json=body), 401, "unauthenticated")
    if path.endswith("/key/rotate"):  # test_operator.py does it, with a server of its own
        return
    answer = http.client.request(method, path, headers=live_service.operator_headers, json=body)
    assert answer.status_code == (404 if path.endswith("0" * 64) else 200), answer.text


def test_an_application_with_an_unguarded_route_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastapi import APIRouter

    from xtrace_server.api import health

    router = APIRouter()

    @router.get("/open")
    async def forgotten() -> None:
        """Declares nothing."""

    monkeypatch.setattr(health, "router", router)
    with pytest.raises(LookupError, match="forgotten"):
        create_app(Settings())
