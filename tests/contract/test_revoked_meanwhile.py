"""A key that ends, or loses its permission, while a body is on its way changes nothing any more."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.service import Http, LiveService, chunk, ok, problem
from xtrace_server.auth import guard
from xtrace_server.auth.guard import ON_THE_HOST
from xtrace_server.operations import organisations

CALLS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "insert": ("POST", "/chunk/{org}", {"chunks": [chunk()]}),
    "update": ("PUT", "/chunk/{org}", {"chunk_updates": [{"chunk_id": 1, **chunk()}]}),
    "patch": ("PATCH", "/chunk/{org}", {"chunk_patches": [{"chunk_id": 1, "meta_data": {"tag1": "x"}}]}),
    "delete by metadata": ("DELETE", "/chunk/by-meta/{org}", {"meta_filter": {}}),
    "patch by metadata": ("PATCH", "/chunk/by-meta/{org}", {"meta_filter": {}, "patch": {"tag1": "x"}}),
}


@pytest.fixture
def stock(http: Http) -> tuple[str, str, str]:
    """A knowledge base with a chunk, a key with permission 7 on it, and the key's hash."""
    http.save_context()
    kb_id = http.new_kb()
    http.insert(kb_id, [chunk()])
    made = ok(http.control("POST", "/keys", json={"name": "other"}))
    key_hash = made["apiKey"]["hash"]
    ok(http.control("PUT", f"/keys/{key_hash}/permissions/{kb_id}", json={"permission": 7}))
    return kb_id, made["secretKey"], key_hash


def meanwhile(http: Http, kb_id: str, key: str, name: str, act: Callable[[], Any]) -> Any:
    """The answer to a call of which the second half of the body is sent after `act`."""
    method, path, fields = CALLS[name]
    body = json.dumps({"kb_id": kb_id, "context_id": "ctx", **fields}).encode()

    def halves() -> Iterator[bytes]:
        yield body[: len(body) // 2]
        # The server has read the headers when it has read these.
        act()
        yield body[len(body) // 2 :]

    headers = {"x-api-key": key, "content-type": "application/json", "content-length": str(len(body))}
    return http.client.request(method, f"/v1{path.format(org=http.org)}", content=halves(), headers=headers)


@pytest.mark.parametrize("name", CALLS)
def test_what_is_revoked_meanwhile_changes_nothing(name: str, http: Http, stock: tuple[str, str, str]) -> None:
    kb_id, key, key_hash = stock
    before = http.get(kb_id, 1, 2)
    other = Http(http.credentials)
    grant = f"/keys/{key_hash}/permissions/{kb_id}"
    lowered = meanwhile(http, kb_id, key, name, lambda: ok(other.control("PUT", grant, json={"permission": 1})))
    problem(lowered, 403, "forbidden")
    ok(http.control("PUT", grant, json={"permission": 7}))
    revoked = meanwhile(http, kb_id, key, name, lambda: ok(other.control("PATCH", f"/keys/{key_hash}/status/revoke")))
    problem(revoked, 401, "unauthenticated")
    assert http.get(kb_id, 1, 2) == before
    other.close()


@pytest.mark.parametrize("name", CALLS)
def test_what_is_not_revoked_is_done(name: str, http: Http, stock: tuple[str, str, str]) -> None:
    kb_id, key, _ = stock
    ok(meanwhile(http, kb_id, key, name, lambda: None))


def test_what_expires_meanwhile_changes_nothing(http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    http.save_context()
    kb_id = http.new_kb()
    made = ok(http.control("POST", "/keys", json={"name": "guest", "expiresAt": "2100-01-01T00:00:00Z"}))
    ok(http.control("PUT", f"/keys/{made['apiKey']['hash']}/permissions/{kb_id}", json={"permission": 3}))
    late = meanwhile(
        http,
        kb_id,
        made["secretKey"],
        "insert",
        lambda: monkeypatch.setattr(guard, "now", lambda: "2100-01-01T00:00:00Z"),
    )
    problem(late, 401, "key_expired")
    assert http.get(kb_id, 1) == []


@pytest.mark.parametrize("name", CALLS)
def test_what_is_suspended_meanwhile_changes_nothing(
    name: str, http: Http, stock: tuple[str, str, str], live_service: LiveService
) -> None:
    kb_id, key, _ = stock
    before = http.get(kb_id, 1, 2)
    late = meanwhile(
        http,
        kb_id,
        key,
        name,
        lambda: live_service.operate(lambda database: organisations.suspend(database, ON_THE_HOST, http.org)),
    )
    problem(late, 403, "suspended")
    live_service.operate(lambda database: organisations.resume(database, ON_THE_HOST, http.org))
    assert http.get(kb_id, 1, 2) == before
