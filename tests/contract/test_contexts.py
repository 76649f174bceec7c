"""Execution contexts and bindings over HTTP."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import msgspec
import pytest

from support import databases
from support.service import Http, LiveService, b64, chunk, ok, problem
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
    assert ok(http.data("GET", "/exec_context/{org}?restorable=false")) == {"contexts": ["c", "b"]}
    both = ok(http.data("GET", "/exec_context/{org}?restorable=true"))
    assert both == {"contexts": ["c", "b"], "restorable": ["c"]}
    detailed = ok(http.data("GET", "/exec_context/{org}?details=true"))
    assert [(one["context_id"], one["type"], one["restorable"]) for one in detailed["details"]] == [
        ("c", "PaillierClient", True),
        ("b", "PaillierClient", False),
    ]
    assert all(datetime.fromisoformat(one["created_at"]).tzinfo for one in detailed["details"])
    for wrong in ("1", "", "true&restorable=true"):
        problem(http.data("GET", f"/exec_context/{{org}}?restorable={wrong}"), 422, "invalid")
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
    ok(http.data("POST", "/exec_context/{org}", json=body, headers=weak))  # it may write there: nothing is replaced
    body["data"] = data(sk="other")
    ok(http.data("POST", "/exec_context/{org}", json=body))
    assert ok(http.data("GET", "/exec_context/{org}/ctx", headers=weak))["sk"] == "other"


# Who may do what


class Keys:
    """API keys of one organisation, by what they may do in a knowledge base."""

    def __init__(self, http: Http, kb: str) -> None:
        self._http = http
        self._kb = kb

    def __getitem__(self, level: int) -> dict[str, str]:
        """A new key's header."""
        made = ok(self._http.control("POST", "/keys", json={"name": f"level {level}"}))
        path = f"/keys/{made['apiKey']['hash']}/permissions/{self._kb}"
        ok(self._http.control("PUT", path, json={"permission": level}))
        return {"x-api-key": made["secretKey"]}


@pytest.fixture
def keys(http: Http) -> Keys:
    return Keys(http, http.new_kb())


def attempt(http: Http, headers: dict[str, str], **fields: Any) -> Any:
    return http.data("POST", "/exec_context/{org}", json={"context_id": "c", "data": data(**fields)}, headers=headers)


def seen(http: Http, headers: dict[str, str]) -> tuple[list[str], int]:
    """What the key's list shows, and the status of reading `c`."""
    listed = ok(http.data("GET", "/exec_context/{org}", headers=headers))["contexts"]
    return listed, http.data("GET", "/exec_context/{org}/c", headers=headers).status_code


SECRETS = {"sk": "sealed", "key_provider": "p", "wrapped_key": "w"}


def test_saving_a_new_context_needs_any_permission_at_all(http: Http, keys: Keys) -> None:
    assert "no permission in any" in problem(attempt(http, keys[0]), 403, "forbidden")
    for level in (1, 3, 7):
        body = {"context_id": f"by {level}", "data": data(**SECRETS)}
        ok(http.data("POST", "/exec_context/{org}", json=body, headers=keys[level]))


def test_an_unbound_context_is_for_its_saver_and_for_keys_for_everything(http: Http, keys: Keys) -> None:
    saver = keys[1]
    ok(attempt(http, saver, **SECRETS))
    assert seen(http, saver) == seen(http, http.data_headers) == (["c"], 200)
    for level in (0, 1, 3, 7):
        other = keys[level]
        assert seen(http, other) == ([], 403)
        problem(http.data("DELETE", "/exec_context/{org}/c", headers=other), 403, "forbidden")
        problem(attempt(http, other, **(SECRETS | {"sk": "x"})), 403, "forbidden")
        problem(retire(http, "c", headers=other), 403, "forbidden")
    ok(attempt(http, saver, **(SECRETS | {"sk": "newer"})))
    ok(attempt(http, http.data_headers, **(SECRETS | {"sk": "newest"})))
    assert ok(http.data("GET", "/exec_context/{org}/c", headers=saver))["sk"] == "newest"
    ok(http.data("DELETE", "/exec_context/{org}/c", headers=saver))


def test_a_bound_context_is_for_those_who_read_there(http: Http, keys: Keys) -> None:
    saver = keys[0]
    ok(http.control("PUT", f"/keys/{first_key(http)}/permissions/{keys._kb}", json={"permission": 7}))
    ok(save(http, **SECRETS))
    ok(http.data("POST", f"/exec_context/{{org}}/{keys._kb}/bind/c"))
    expected = {0: ([], 403), 1: (["c"], 200), 3: (["c"], 200), 7: (["c"], 200)}
    assert {level: seen(http, keys[level]) for level in expected} == expected
    assert seen(http, saver) == ([], 403)


def first_key(http: Http) -> str:
    (first,) = [key["hash"] for key in ok(http.control("GET", "/keys")) if key["name"] == "default"]
    return str(first)


def test_the_saver_of_a_bound_context_needs_rights_there_like_everybody(http: Http, keys: Keys) -> None:
    saver = keys[1]
    ok(attempt(http, saver, **SECRETS))
    ok(http.data("POST", f"/exec_context/{{org}}/{http.new_kb()}/bind/c"))  # where the saver has no permission
    assert seen(http, saver) == ([], 403)
    problem(http.data("DELETE", "/exec_context/{org}/c", headers=saver), 403, "forbidden")


def test_the_public_part_again_is_accepted_and_changes_nothing(http: Http, keys: Keys) -> None:
    ok(save(http, **SECRETS))
    before = ok(http.data("GET", "/exec_context/{org}/c"))
    for level in (1, 3, 7):
        ok(attempt(http, keys[level]))
        ok(attempt(http, keys[level], **SECRETS))
    problem(attempt(http, keys[0]), 403, "forbidden")
    assert ok(http.data("GET", "/exec_context/{org}/c")) == before


def test_secrets_are_added_by_those_who_write_there(http: Http, keys: Keys) -> None:
    ok(save(http))
    problem(attempt(http, keys[7], **SECRETS), 403, "forbidden")  # unbound, and another's
    ok(http.data("POST", f"/exec_context/{{org}}/{keys._kb}/bind/c"))
    assert ok(http.data("GET", "/exec_context/{org}?restorable=true"))["restorable"] == []
    for level in (0, 1):
        problem(attempt(http, keys[level], **SECRETS), 403, "forbidden")
    ok(attempt(http, keys[3], **SECRETS))
    assert ok(http.data("GET", "/exec_context/{org}?restorable=true"))["restorable"] == ["c"]
    problem(attempt(http, keys[3], **(SECRETS | {"sk": "x"})), 403, "forbidden")
    ok(attempt(http, keys[7], **(SECRETS | {"sk": "x"})))


def test_a_context_without_a_known_saver_is_for_keys_for_everything(
    http: Http, keys: Keys, live_service: LiveService
) -> None:
    saver = keys[7]
    ok(attempt(http, saver, **SECRETS))
    unknown = "UPDATE execution_context SET saved_by = NULL WHERE organisation_id = ?"
    databases.execute(live_service.folder, unknown, http.org)
    assert seen(http, saver) == ([], 403)
    problem(http.data("DELETE", "/exec_context/{org}/c", headers=saver), 403, "forbidden")
    assert seen(http, http.data_headers) == (["c"], 200)
    ok(http.data("DELETE", "/exec_context/{org}/c"))


def test_a_colleague_with_a_write_key_loads_under_a_stored_context(http: Http, keys: Keys) -> None:
    ok(save(http, **SECRETS))
    colleague = keys[3]
    ok(attempt(http, colleague))  # as a loader does: the public part
    body = {"kb_id": keys._kb, "context_id": "c", "chunks": [chunk()]}
    assert ok(http.data("POST", "/chunk/{org}", json=body, headers=colleague)) == {"chunk_ids": [1]}
    assert seen(http, colleague) == (["c"], 200)


# Salts for names


def salt(http: Http, kb: str, context: str = "ctx") -> Any:
    return ok(http.data("GET", f"/exec_context/{{org}}/{kb}/name_salt/{context}"))["salt"]


def store_salt(http: Http, kb: str, body: dict[str, Any], context: str = "ctx") -> Any:
    return http.data("PUT", f"/exec_context/{{org}}/{kb}/name_salt/{context}", json=body)


def test_the_first_salt_for_names_stays_unless_it_is_replaced_by_name(http: Http) -> None:
    http.save_context()
    kb, other = http.new_kb(), http.new_kb()
    assert salt(http, kb) is None
    assert ok(store_salt(http, kb, {"salt": b64(b"one"), "replaces": b64(b"two")})) == {"salt": None}
    for later in (b"one", b"two"):
        assert ok(store_salt(http, kb, {"salt": b64(later)})) == {"salt": b64(b"one")}
    assert ok(store_salt(http, kb, {"salt": b64(b"three"), "replaces": b64(b"two")})) == {"salt": b64(b"one")}
    for _ in range(2):  # a repeated request changes nothing, and says what holds
        assert ok(store_salt(http, kb, {"salt": b64(b"two"), "replaces": b64(b"one")})) == {"salt": b64(b"two")}
    http.insert(kb, [chunk()])
    assert salt(http, kb) == b64(b"two")
    assert salt(http, other) is None
    assert ok(http.data("GET", f"/exec_context/{{org}}/{kb}/context")) == {"context_ids": ["ctx"]}
    assert ok(http.data("GET", f"/exec_context/{{org}}/{other}/context")) == {"context_ids": []}


def test_a_salt_for_names_is_bounded_and_belongs_to_what_there_is(http: Http) -> None:
    http.save_context()
    kb = http.new_kb()
    ok(store_salt(http, kb, {"salt": b64(bytes(128))}))
    for body in (
        {},
        {"salt": ""},
        {"salt": b64(bytes(129))},
        {"salt": 7},
        {"salt": None},
        {"salt": b64(b"x"), "replaces": b64(bytes(129))},
    ):
        assert "salt" in problem(store_salt(http, kb, body), 422, "invalid") or "replaces" in body
    problem(store_salt(http, kb, {"salt": b64(b"x")}, "other"), 404, "context_not_found")
    problem(store_salt(http, "x", {"salt": b64(b"x")}), 404, "knowledge_base_not_found")
    problem(http.data("GET", f"/exec_context/{{org}}/{kb}/name_salt/other"), 404, "context_not_found")


def test_a_salt_for_names_goes_with_its_context_or_its_knowledge_base(http: Http) -> None:
    http.save_context()
    kb = http.new_kb()
    ok(store_salt(http, kb, {"salt": b64(b"one")}))
    ok(http.data("DELETE", "/exec_context/{org}/ctx"))
    http.save_context()
    assert salt(http, kb) is None
    ok(store_salt(http, kb, {"salt": b64(b"two")}))
    ok(http.control("DELETE", f"/kbs/{kb}"))
    problem(http.data("GET", f"/exec_context/{{org}}/{kb}/name_salt/ctx"), 404, "knowledge_base_not_found")


def test_many_first_salts_at_once_become_one(http: Http) -> None:
    http.save_context()
    kb = http.new_kb()
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda i: ok(store_salt(http, kb, {"salt": b64(b"%d" % i)}))["salt"], range(32)))
    assert set(answers) == {salt(http, kb)}


# Retired contexts


def retire(http: Http, context_id: str = "ctx", **arguments: Any) -> Any:
    return http.data("POST", f"/exec_context/{{org}}/{context_id}/retire", **arguments)


def writes(kb: str, chunk_id: int = 1) -> dict[str, tuple[str, str, dict[str, Any]]]:
    """Every way to leave something under `ctx`."""
    scope = {"kb_id": kb, "context_id": "ctx"}
    patches: dict[str, dict[str, Any]] = {
        "content": {"chunk_content": "x"},
        "tag": {"meta_data": {"tag1": "x"}},
        "name": {"name": "x"},
    }
    changed = {
        f"patch {name} as {context}": (
            "PATCH",
            "/chunk/{org}",
            {"kb_id": kb, "context_id": context, "chunk_patches": [{"chunk_id": chunk_id} | patch]},
        )
        for name, patch in patches.items()
        for context in ("ctx", "new")
    }
    others: dict[str, tuple[str, str, dict[str, Any]]] = {
        "insert": ("POST", "/chunk/{org}", {**scope, "chunks": [chunk()]}),
        "update": ("PUT", "/chunk/{org}", {**scope, "chunk_updates": [chunk(chunk_id=chunk_id)]}),
        "patch index": (
            "PATCH",
            "/chunk/{org}",
            {**scope, "chunk_patches": [{"chunk_id": chunk_id, "index": chunk()["index"]}]},
        ),
        "patch by metadata": ("PATCH", "/chunk/by-meta/{org}", {**scope, "meta_filter": {}, "patch": {"tag1": "x"}}),
    }
    return changed | others


def test_nothing_more_is_stored_under_a_retired_context(http: Http) -> None:
    http.save_context("ctx")
    http.save_context("new")
    kb, other = http.new_kb(), http.new_kb()
    http.insert(kb, [chunk(), chunk(2)])
    before = http.get(kb, 1, 2)
    for _ in range(2):
        assert ok(retire(http)) == {"context_id": "ctx"}
    for method, path, body in writes(kb).values():
        assert "retired" in problem(http.data(method, path, json=body), 409, "context_retired")
    problem(http.data("POST", f"/exec_context/{{org}}/{other}/bind/ctx"), 409, "context_retired")
    for one in (kb, other):
        problem(store_salt(http, one, {"salt": b64(b"salt")}), 409, "context_retired")
    assert http.get(kb, 1, 2) == before
    # It can be read, saved again as it is, moved and deleted.
    http.save_context("ctx")
    assert [row[1] for row in http.search(kb, [toy_key().encrypt(1)])] == [1, 2]
    ok(http.data("PUT", "/chunk/{org}", json={"kb_id": kb, "context_id": "new", "chunk_updates": [chunk(chunk_id=1)]}))
    empty = {"kb_id": kb, "context_id": "ctx", "meta_filter": {"tag1": "none"}, "patch": {"tag1": "x"}}
    assert ok(http.data("PATCH", "/chunk/by-meta/{org}", json=empty)) == {"updated_count": 0}
    ok(http.data("DELETE", "/chunk/{org}", params={"kb_id": kb, "chunk_ids": [2]}))
    ok(http.data("PATCH", "/chunk/{org}", json=writes(kb)["patch content as new"][2]))


def test_what_is_stored_is_stored_before_the_context_is_retired(http: Http) -> None:
    http.save_context("ctx")
    kbs = [http.new_kb() for _ in range(3)]  # of which the last is not bound yet when writing begins
    for kb in kbs[:2]:
        http.insert(kb, [chunk()])

    def insert_until_refused(kb: str) -> int:
        body = {"kb_id": kb, "context_id": "ctx", "chunks": [chunk()]}
        for stored in range(10_000):
            answer = http.data("POST", "/chunk/{org}", json=body)
            if answer.status_code != 200:
                problem(answer, 409, "context_retired")
                return stored
        raise AssertionError("the context was never retired")

    def totals() -> list[int]:
        pages = [
            ok(http.data("POST", "/chunk/meta/page/{org}", json={"kb_id": kb, "context_id": "ctx", "limit": 0}))
            for kb in kbs
        ]
        return [page["total"] for page in pages]

    with ThreadPoolExecutor(6) as threads:
        writers = [threads.submit(insert_until_refused, kb) for kb in kbs * 2]
        while sum(totals()) < 20:
            pass
        ok(retire(http))
        final = totals()
    assert sum(writer.result() for writer in writers) == sum(final) - 2
    assert totals() == final


def test_an_insertion_that_was_answered_before_is_answered_again(http: Http) -> None:
    http.save_context("ctx")
    kb = http.new_kb()
    body, headers = {"kb_id": kb, "context_id": "ctx", "chunks": [chunk()]}, {"idempotency-key": "one"}
    first = ok(http.data("POST", "/chunk/{org}", json=body, headers=headers))
    ok(retire(http))
    assert ok(http.data("POST", "/chunk/{org}", json=body, headers=headers)) == first
    problem(http.data("POST", "/chunk/{org}", json=body), 409, "context_retired")


def test_a_retired_context_that_was_deleted_does_not_come_back(http: Http) -> None:
    http.save_context("ctx")
    problem(retire(http, "unknown"), 404, "context_not_found")
    ok(retire(http))
    ok(http.data("DELETE", "/exec_context/{org}/ctx"))
    problem(retire(http), 404, "context_not_found")
    problem(save(http, "ctx"), 409, "context_retired")
    kb = http.new_kb()
    for name in ("insert", "update"):
        method, path, body = writes(kb)[name]
        body = {field: value for field, value in body.items() if field != "chunk_updates"} | {"chunk_updates": []}
        problem(http.data(method, path, json=body), 409, "context_retired")
    problem(http.data("POST", f"/exec_context/{{org}}/{kb}/bind/ctx"), 409, "context_retired")
    problem(http.data("GET", "/exec_context/{org}/ctx"), 404, "context_not_found")
    ok(save(http, "another"))


def test_retiring_is_for_those_who_may_replace_the_context(http: Http, live_service: LiveService) -> None:
    http.save_context("ctx")
    made = ok(http.control("POST", "/keys", json={"name": "limited"}))
    limited = {"x-api-key": made["secretKey"]}
    problem(retire(http, headers=limited), 403, "forbidden")  # bound to nothing
    kb, second = http.new_kb(), http.new_kb()
    for one in (kb, second):
        ok(http.data("POST", f"/exec_context/{{org}}/{one}/bind/ctx"))
    ok(http.control("PUT", f"/keys/{made['apiKey']['hash']}/permissions/{kb}", json={"permission": 7}))
    assert retire(http, headers=limited).status_code in (403, 404)
    ok(http.control("PUT", f"/keys/{made['apiKey']['hash']}/permissions/{second}", json={"permission": 7}))
    ok(retire(http, headers=limited))
    other = Http(live_service.new_organisation())
    other.save_context("ctx")
    other.insert(other.new_kb(), [chunk()])  # another organisation's context of the same id
    other.close()


@pytest.mark.parametrize("context_id", ["a/b", ".", "..", "/", "a\n", "", "x" * 257])
def test_an_id_that_no_address_can_hold_is_refused(context_id: str, http: Http) -> None:
    assert "context_id" in problem(save(http, context_id), 422, "invalid")
