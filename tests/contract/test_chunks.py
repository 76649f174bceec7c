"""Insert, get, update, patch, delete by id, and names, over HTTP: writes as JSON and as MessagePack."""

from collections.abc import Iterator
from typing import Any

import pytest

from support.service import Http, b64, chunk, ok, packed, problem
from support.toy_paillier import toy_key
from xtrace_core import wire
from xtrace_server.credentials import Credentials


@pytest.fixture(params=["JSON", "MessagePack"])
def http(credentials: Credentials, request: pytest.FixtureRequest) -> Iterator[Http]:
    client = Http(credentials, packs=request.param == "MessagePack")
    yield client
    client.close()


@pytest.fixture
def kb(http: Http) -> str:
    http.save_context()
    return http.new_kb()


def count(http: Http, kb: str) -> int:
    return int(ok(http.control("GET", f"/kbs/{kb}"))["numberOfVectors"])


def test_what_is_inserted_comes_back_as_it_was_stored(http: Http, kb: str) -> None:
    meta = {"tag1": "u", "tag5": "", "tag2": None, "facets": ["b", "a", "b"]}
    sent = chunk(7, meta_data=meta, name="n", nonce=b64(b"n" * 14), unknown="ignored")
    assert http.insert(kb, [sent]) == [1]
    (got,) = http.get(kb, 1)
    assert got["created_at"] == got["updated_at"]
    assert got["created_at"].endswith("Z")
    del got["created_at"], got["updated_at"]
    assert got == {
        "chunk_id": 1,
        "meta_data": {"tag1": "u", "tag5": "", "facets": ["b", "a"]},
        "name": "n",
        "chunk_content": "content 7",
        "index": sent["index"],
        "nonce": b64(b"n" * 14),
    }


def test_chunks_come_in_the_order_asked_for_and_unknown_ids_are_left_out(http: Http, kb: str) -> None:
    http.insert(kb, [chunk(i) for i in range(4)])
    asked = (3, 99, 1, 4, 10**30, -1, 0, 3)
    assert [one["chunk_id"] for one in http.get(kb, *asked)] == [3, 1, 4]
    assert http.get(kb) == []


def test_ids_grow_by_one_and_are_never_used_again(http: Http, kb: str) -> None:
    assert http.insert(kb, [chunk(), chunk()]) == [1, 2]
    removed = ok(http.data("DELETE", "/chunk/{org}", params={"kb_id": kb, "chunk_ids": [2, 2, 5]}))
    assert removed == {"deleted_count": 1}
    assert http.insert(kb, [chunk()]) == [3]
    assert count(http, kb) == 2


def test_projection_names_fields_and_single_tags(http: Http, kb: str) -> None:
    http.insert(kb, [chunk(meta_data={"tag1": "a", "facets": ["f"]}, nonce=b64(b"x")), chunk()])
    assert http.get(kb, 1, projection=("tag1",)) == [{"chunk_id": 1, "meta_data": {"tag1": "a"}}]
    assert http.get(kb, 1, projection=("facets", "name")) == [
        {"chunk_id": 1, "meta_data": {"facets": ["f"]}, "name": ""}
    ]
    assert http.get(kb, 2, projection=("tag1",)) == [{"chunk_id": 2, "meta_data": {}}]
    assert http.get(kb, 1, projection=("chunk_content",)) == [
        {"chunk_id": 1, "chunk_content": "content 1", "nonce": b64(b"x")}
    ]
    assert http.get(kb, 1, projection=("chunk_id",)) == [{"chunk_id": 1}]
    assert set(http.get(kb, 2, projection=("index",))[0]) == {"chunk_id", "index"}
    bad = http.data("GET", "/chunk/{org}", params={"kb_id": kb, "chunk_ids": 1, "projection": "secret"})
    assert "secret" in problem(bad, 422, "invalid")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"meta_data": {"tag6": "x"}}, "tag6"),
        ({"meta_data": {"tag1": 3}}, "tag1"),
        ({"meta_data": {"facets": ["a", None]}}, "facets"),
        ({"meta_data": {"facets": "a"}}, "facets"),
        ({"chunk_content": None}, "chunk_content"),
        ({"index": []}, "chunks[1].index"),
        ({"index": ["not base64!"]}, "index"),
        ({"index": [b64(b"\0" * 8)]}, "chunks[1].index"),
        ({"index": [b64(b"\xff" * 200)]}, "chunks[1].index"),
        ({"nonce": b64(b"x" * 33)}, "nonce"),
        ({"name": "a\0b"}, "NUL"),
        ({"name": 4}, "name"),
    ],
)
def test_one_bad_chunk_is_a_422_that_says_why_and_stores_nothing(
    http: Http, kb: str, change: dict[str, Any], words: str
) -> None:
    body = {"kb_id": kb, "context_id": "ctx", "chunks": [chunk(), chunk() | change]}
    answer = http.data("POST", "/chunk/{org}", json=body)
    assert answer.status_code == 422
    assert words in problem(answer, 422, answer.json()["code"])
    assert count(http, kb) == 0


def test_all_indexes_of_a_context_have_as_many_ciphertexts_as_the_first(http: Http, kb: str) -> None:
    double = chunk() | {"index": chunk()["index"] * 2}
    http.insert(kb, [chunk()])
    body = {"kb_id": kb, "context_id": "ctx", "chunks": [chunk(), double]}
    detail = problem(http.data("POST", "/chunk/{org}", json=body), 422, "invalid_ciphertext")
    assert "chunks[1].index has 2 ciphertexts, expected 1" in detail
    http.save_context("other")
    http.insert(kb, [double], "other")
    ok(http.data("DELETE", "/chunk/{org}", params={"kb_id": kb, "chunk_ids": [1]}))
    http.insert(kb, [double])  # nothing is left: this one is the first


def test_a_context_that_is_not_stored_is_a_404_that_says_to_save_it(http: Http, kb: str) -> None:
    body = {"kb_id": kb, "context_id": "unknown", "chunks": [chunk()]}
    assert "save the context first" in problem(http.data("POST", "/chunk/{org}", json=body), 404, "context_not_found")


def test_an_update_replaces_everything_and_moves_to_the_context(http: Http, kb: str) -> None:
    http.save_context("second")
    http.insert(kb, [chunk(meta_data={"tag1": "a", "facets": ["x"]}, name="n", nonce=b64(b"n"))])
    before = http.get(kb, 1)[0]
    update = {"chunk_id": 1, **chunk(5, meta_data={"tag2": "b"})}
    body = {"kb_id": kb, "context_id": "second", "chunk_updates": [update]}
    assert ok(http.data("PUT", "/chunk/{org}", json=body)) == {"updated_count": 1}
    after = http.get(kb, 1)[0]
    assert after["created_at"] == before["created_at"]
    assert after["updated_at"] > before["updated_at"]
    assert (after["meta_data"], after["name"], after["chunk_content"]) == ({"tag2": "b"}, "", "content 5")
    assert after["index"] == update["index"]
    assert "nonce" not in after
    query = [toy_key().encrypt(0)]
    assert http.search(kb, query) == []
    assert [toy_key().decrypt(row[0][0]) for row in http.search(kb, query, "second")] == [5]
    assert count(http, kb) == 1


def test_unknown_ids_in_an_update_or_patch_change_nothing(http: Http, kb: str) -> None:
    http.insert(kb, [chunk(1), chunk(2)])
    updates = [{"chunk_id": i, **chunk(9)} for i in (1, 7, 2**63)]
    body: dict[str, Any] = {"kb_id": kb, "context_id": "ctx", "chunk_updates": updates}
    problem(http.data("PUT", "/chunk/{org}", json=body), 404, "chunks_not_found")
    body["chunk_updates"] = updates[:2]
    detail = problem(http.data("PUT", "/chunk/{org}", json=body), 404, "chunks_not_found")
    assert "not have chunk 7" in detail
    patches = [{"chunk_id": i, "name": "new"} for i in (2, 8)]
    body = {"kb_id": kb, "context_id": "ctx", "chunk_patches": patches}
    assert "not have chunk 8" in problem(http.data("PATCH", "/chunk/{org}", json=body), 404, "chunks_not_found")
    assert [one["chunk_content"] for one in http.get(kb, 1, 2)] == ["content 1", "content 2"]
    assert http.get(kb, 2)[0]["name"] == ""


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_a_conditional_write_is_not_carried_out_over_what_others_wrote_since(http: Http, kb: str, method: str) -> None:
    http.insert(kb, [chunk(1), chunk(2), chunk(3)])
    read = {one["chunk_id"]: one["updated_at"] for one in http.get(kb, 1, 2, 3)}
    other = [{"chunk_id": 2, "meta_data": {"tag1": "theirs"}}]
    ok(http.data("PATCH", "/chunk/{org}", json={"kb_id": kb, "context_id": "ctx", "chunk_patches": other}))
    mine = [chunk(i) | {"chunk_id": i, "name": "mine", "if_updated_at": read[i]} for i in (1, 2)]
    field = "chunk_updates" if method == "PUT" else "chunk_patches"
    body: dict[str, Any] = {"kb_id": kb, "context_id": "ctx", field: mine}
    assert "changed chunk 2 after" in problem(http.data(method, "/chunk/{org}", json=body), 409, "chunks_changed")
    assert [one["name"] for one in http.get(kb, 1, 2, 3)] == ["", "", ""]
    body[field] = [mine[0], chunk(3) | {"chunk_id": 3, "name": "unconditional", "if_updated_at": None}]
    assert ok(http.data(method, "/chunk/{org}", json=body)) == {"updated_count": 2}
    assert [one["name"] for one in http.get(kb, 1, 2, 3)] == ["mine", "", "unconditional"]
    assert "changed chunk 1 after" in problem(http.data(method, "/chunk/{org}", json=body), 409, "chunks_changed")


def test_an_id_twice_in_an_update_or_patch_is_a_422(http: Http, kb: str) -> None:
    http.insert(kb, [chunk()])
    body: dict[str, Any] = {"kb_id": kb, "context_id": "ctx"}
    body["chunk_patches"] = [{"chunk_id": 1}, {"chunk_id": 1}]
    assert "chunk_patches[1]" in problem(http.data("PATCH", "/chunk/{org}", json=body), 422, "invalid")
    body["chunk_updates"] = [{"chunk_id": 1, **chunk()}, {"chunk_id": 1, **chunk()}]
    assert "chunk_updates[1]" in problem(http.data("PUT", "/chunk/{org}", json=body), 422, "invalid")


def patch(http: Http, kb: str, context: str = "ctx", **fields: Any) -> Any:
    body = {"kb_id": kb, "context_id": context, "chunk_patches": [{"chunk_id": 1, **fields}]}
    return http.data("PATCH", "/chunk/{org}", json=body)


def test_a_patch_changes_only_what_it_names(http: Http, kb: str) -> None:
    meta = {"tag1": "a", "tag2": "b", "facets": ["x", "y"]}
    http.insert(kb, [chunk(1, meta_data=meta, name="n", nonce=b64(b"n"))])
    ok(patch(http, kb, meta_data={"tag1": None, "tag3": "c"}))
    (got,) = http.get(kb, 1)
    assert got["meta_data"] == {"tag2": "b", "tag3": "c", "facets": ["x", "y"]}
    assert (got["name"], got["chunk_content"], got["nonce"]) == ("n", "content 1", b64(b"n"))
    ok(patch(http, kb, meta_data={"facets": ["z", "z"]}, chunk_content="new", name="m"))
    (got,) = http.get(kb, 1)
    assert got["meta_data"] == {"tag2": "b", "tag3": "c", "facets": ["z"]}
    assert (got["name"], got["chunk_content"], got["nonce"]) == ("m", "new", b64(b"n"))
    ok(patch(http, kb, meta_data={"facets": None}))
    assert http.get(kb, 1, projection=("facets",))[0]["meta_data"] == {}


def test_a_patched_index_loses_the_nonce_unless_it_brings_one(http: Http, kb: str) -> None:
    http.insert(kb, [chunk(1, nonce=b64(b"old"))])
    ok(patch(http, kb, index=chunk(3)["index"], nonce=b64(b"new")))
    query = [toy_key().encrypt(0)]
    ((ciphertexts, _, nonce),) = http.search(kb, query)
    assert (toy_key().decrypt(ciphertexts[0]), nonce) == (3, b"new")
    ok(patch(http, kb, index=chunk(4)["index"]))
    assert "nonce" not in http.get(kb, 1)[0]
    ((ciphertexts, _, nonce),) = http.search(kb, query)
    assert (toy_key().decrypt(ciphertexts[0]), nonce) == (4, None)


def test_a_patched_index_must_be_of_the_chunks_own_context(http: Http, kb: str) -> None:
    http.save_context("other", toy_key(1))
    http.insert(kb, [chunk()])
    answer = patch(http, kb, "other", index=chunk(key=toy_key(1))["index"])
    assert "another context" in problem(answer, 422, "invalid")


def test_names_are_found_under_their_context_with_the_smallest_id(http: Http, kb: str) -> None:
    http.save_context("other")
    http.insert(kb, [chunk(name="a"), chunk(name="b"), chunk(name="a"), chunk(name="")])
    http.insert(kb, [chunk(name="c")], "other")
    body: dict[str, Any] = {"kb_id": kb, "context_id": "ctx", "names": ["a", "b", "c", "", "a"]}
    assert ok(http.data("POST", "/chunk/names/{org}", json=body)) == {"chunk_ids": {"a": 1, "b": 2}}
    body["context_id"] = "unknown"
    assert ok(http.data("POST", "/chunk/names/{org}", json=body)) == {"chunk_ids": {}}


def test_an_insertion_repeated_with_its_key_stores_nothing_twice(http: Http, kb: str) -> None:
    body = {"kb_id": kb, "context_id": "ctx", "chunks": [chunk(), chunk()]}
    headers = {"Idempotency-Key": "k1"}
    first = http.data("POST", "/chunk/{org}", json=body, headers=headers)
    again = http.data("POST", "/chunk/{org}", json=body, headers=headers)
    assert ok(first) == ok(again) == {"chunk_ids": [1, 2]}
    assert count(http, kb) == 2
    body["chunks"] = [chunk()]
    other = http.data("POST", "/chunk/{org}", json=body, headers=headers)
    problem(other, 422, "idempotency_key_reused")
    long = http.data("POST", "/chunk/{org}", json=body, headers={"Idempotency-Key": "k" * 256})
    problem(long, 422, "invalid")


def test_a_key_belongs_to_one_format_of_a_body(http: Http, kb: str) -> None:
    body = {"kb_id": kb, "context_id": "ctx", "chunks": [chunk()]}
    headers = {"Idempotency-Key": "k1"}
    ok(http.data("POST", "/chunk/{org}", json=body, headers=headers))
    http.packs = not http.packs
    problem(http.data("POST", "/chunk/{org}", json=body, headers=headers), 422, "idempotency_key_reused")
    assert count(http, kb) == 1


@pytest.mark.parametrize("media_type", sorted(wire.MSGPACK_NAMES))
def test_messagepack_goes_by_several_names(http: Http, kb: str, media_type: str) -> None:
    sent = chunk(7, nonce=b64(b"n" * 14))
    body = packed({"kb_id": kb, "context_id": "ctx", "chunks": [sent]})
    headers = {"content-type": media_type.upper() + "; v=1"}
    assert ok(http.data("POST", "/chunk/{org}", content=body, headers=headers)) == {"chunk_ids": [1]}
    assert http.get(kb, 1)[0]["index"] == sent["index"]


def test_only_writes_of_chunks_may_be_messagepack(http: Http, kb: str) -> None:
    headers = {"content-type": wire.MSGPACK}
    for call, path in (
        (http.data, "/chunk/names/{org}"),
        (http.data, "/compute_hamming/{org}"),
        (http.control, "/kbs"),
    ):
        detail = problem(call("POST", path, content=b"\x80", headers=headers), 415, "unsupported_media_type")
        assert "expected application/json" in detail
    text = http.data("POST", "/chunk/{org}", content=b"x", headers={"content-type": "text/plain"})
    assert f"expected application/json or {wire.MSGPACK}" in problem(text, 415, "unsupported_media_type")


def test_body_less_calls_may_be_labelled_as_octet_streams(http: Http, kb: str) -> None:
    http.insert(kb, [chunk()])
    label = {"content-type": "application/octet-stream"}
    params = {"kb_id": kb, "chunk_ids": [1]}
    ok(http.data("GET", "/chunk/{org}", params=params, headers=label))
    ok(http.data("DELETE", "/chunk/{org}", params=params, headers=label))
    ok(http.data("POST", f"/exec_context/{{org}}/{kb}/bind/ctx", headers=label))


@pytest.mark.parametrize("ids", ["x", "1.5", "", "1,2", "٣", "9" * 50])
def test_chunk_ids_that_are_no_numbers_are_a_422(http: Http, kb: str, ids: str) -> None:
    for method in ("GET", "DELETE"):
        answer = http.data(method, "/chunk/{org}", params={"kb_id": kb, "chunk_ids": ids})
        assert "chunk_ids" in problem(answer, 422, "invalid")


def test_an_empty_insertion_stores_nothing(http: Http, kb: str) -> None:
    assert http.insert(kb, []) == []
    body = {"kb_id": kb, "context_id": "ctx", "chunk_updates": []}
    assert ok(http.data("PUT", "/chunk/{org}", json=body)) == {"updated_count": 0}
    body = {"kb_id": kb, "context_id": "ctx", "chunk_patches": []}
    assert ok(http.data("PATCH", "/chunk/{org}", json=body)) == {"updated_count": 0}
