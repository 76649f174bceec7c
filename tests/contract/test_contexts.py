"""Execution contexts and bindings over HTTP."""

import json
from typing import Any

import msgspec
import pytest

from support.service import Http, chunk, ok, problem
from support.toy_paillier import toy_key

N = toy_key().n


def data(**fields: Any) -> dict[str, Any]:
    public: dict[str, Any] = msgspec.to_builtins(toy_key().context_data)
    return public | fields


def save(http: Http, context_id: str = "c", **fields: Any) -> Any:
    return http.data("POST", "/exec_context/{org}", json={"context_id": context_id, "data": data(**fields)})


def test_a_context_comes_back_as_it_was_stored(http: Http) -> None:
    secret = {"sk": "sealed", "key_provider": "passphrase", "wrapped_key": "salt"}
    assert ok(save(http, **secret)) == {"context_id": "c"}
    assert ok(http.data("GET", "/exec_context/{org}/c")) == data(**secret)
    ok(save(http, "b"))
    assert ok(http.data("GET", "/exec_context/{org}/b")) == data()
    assert ok(http.data("GET", "/exec_context/{org}")) == {"contexts": ["c", "b"]}
    problem(http.data("GET", "/exec_context/{org}/nowhere"), 404, "context_not_found")


def test_saving_again_adds_to_the_secret_and_never_changes_the_public_part(http: Http) -> None:
    ok(save(http))
    ok(save(http, sk="sealed", key_provider="p"))
    ok(save(http, wrapped_key="w", sk=None))
    assert ok(http.data("GET", "/exec_context/{org}/c")) == data(sk="sealed", key_provider="p", wrapped_key="w")
    for change in ({"config": "{}"}, {"pk": json.dumps({"n": str(N)})}, {"type": "PaillierLookupClient"}):
        assert next(iter(change)) in problem(save(http, **change), 409, "context_differs")


@pytest.mark.parametrize(
    "change",
    [
        {"type": "Rot13Client"},
        {"pk": "no json"},
        {"pk": json.dumps({"n": N + 1})},
        {"pk": json.dumps({"n": 3})},
        {"pk": json.dumps({"g": 3})},
        {"pk": '{"n": ' + "9" * 5000 + "}"},
        {"pk": {"n": N}},
        {"config": "no json"},
        {"config": None},
        {"sk": 5},
    ],
)
def test_a_context_that_no_search_can_be_computed_with_is_a_422(http: Http, change: dict[str, Any]) -> None:
    assert "data" in problem(save(http, **change), 422, "invalid")


def test_a_modulus_may_be_written_as_its_digits(http: Http) -> None:
    ok(save(http, pk=json.dumps({"n": str(N)})))


def test_a_context_is_deleted_unless_chunks_use_it(http: Http) -> None:
    http.save_context()
    kb = http.new_kb()
    http.insert(kb, [chunk()])
    problem(http.data("DELETE", "/exec_context/{org}/ctx"), 409, "context_in_use")
    ok(http.data("DELETE", "/chunk/{org}", params={"kb_id": kb, "chunk_ids": [1]}))
    ok(http.data("DELETE", "/exec_context/{org}/ctx"))
    problem(http.data("GET", "/exec_context/{org}/ctx"), 404, "context_not_found")
    assert ok(http.data("GET", f"/exec_context/{{org}}/{kb}/context")) == {"context_ids": []}


def test_bindings_are_made_by_insertion_and_by_hand(http: Http) -> None:
    http.save_context("one")
    http.save_context("two")
    first, second = http.new_kb(), http.new_kb()
    http.insert(first, [chunk()], "one")
    for _ in range(2):
        ok(http.data("POST", f"/exec_context/{{org}}/{first}/bind/two"))
    ok(http.data("POST", f"/exec_context/{{org}}/{second}/bind/one"))
    assert ok(http.data("GET", f"/exec_context/{{org}}/{first}/context")) == {"context_ids": ["one", "two"]}
    assert ok(http.data("GET", "/exec_context/{org}/one/kb")) == {"kb_ids": [first, second]}
    problem(http.data("POST", f"/exec_context/{{org}}/{first}/bind/x"), 404, "context_not_found")
    problem(http.data("POST", "/exec_context/{org}/x/bind/one"), 404, "knowledge_base_not_found")
    problem(http.data("GET", "/exec_context/{org}/x/kb"), 404, "context_not_found")
    problem(http.data("GET", "/exec_context/{org}/x/context"), 404, "knowledge_base_not_found")


def test_replacing_secrets_or_deleting_needs_permission_7_on_every_bound_knowledge_base(http: Http) -> None:
    ok(save(http, "ctx", sk="sealed"))
    kb = http.new_kb()
    http.insert(kb, [chunk()])
    made = ok(http.control("POST", "/keys", json={"name": "weak"}))
    weak = {"x-api-key": made["secretKey"]}
    ok(http.control("PUT", f"/keys/{made['apiKey']['hash']}/permissions/{kb}", json={"permission": 3}))
    body = {"context_id": "ctx", "data": data(sk="other")}
    problem(http.data("POST", "/exec_context/{org}", json=body, headers=weak), 403, "forbidden")
    problem(http.data("DELETE", "/exec_context/{org}/ctx", headers=weak), 403, "forbidden")
    body["data"] = data(sk="sealed", wrapped_key="w")
    ok(http.data("POST", "/exec_context/{org}", json=body, headers=weak))
    body["data"] = data(sk="other")
    ok(http.data("POST", "/exec_context/{org}", json=body))
    assert ok(http.data("GET", "/exec_context/{org}/ctx", headers=weak))["sk"] == "other"
