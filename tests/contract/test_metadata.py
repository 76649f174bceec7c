"""Metadata search, pages, delete and patch by metadata, over HTTP."""

from typing import Any

import pytest

from support.service import Http, b64, chunk, ok, problem
from xtrace_core.metadata_filter import parse_filter
from xtrace_server.http.page_token import PageToken, decode_token, encode_token, query_digest
from xtrace_server.scope import SearchScope
from xtrace_server.storage.keyset import Position


@pytest.fixture
def kb(http: Http) -> str:
    http.save_context()
    return http.new_kb()


def body(kb: str, **fields: Any) -> dict[str, Any]:
    return {"kb_id": kb, "context_id": "ctx", **fields}


def search(http: Http, kb: str, meta_filter: Any, **fields: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ok(
        http.data("POST", "/chunk/meta/{org}", json=body(kb, meta_filter=meta_filter, **fields))
    )
    return found


def page(http: Http, kb: str, **fields: Any) -> dict[str, Any]:
    answer: dict[str, Any] = ok(http.data("POST", "/chunk/meta/page/{org}", json=body(kb, **fields)))
    return answer


def ids(chunks: list[dict[str, Any]]) -> list[int]:
    return [one["chunk_id"] for one in chunks]


def test_a_search_returns_metadata_by_ascending_id(http: Http, kb: str) -> None:
    http.save_context("other")
    http.insert(kb, [chunk(i, meta_data={"tag1": "ab"[i % 2]}, nonce=b64(b"n")) for i in range(1, 6)])
    http.insert(kb, [chunk(meta_data={"tag1": "a"})], "other")
    found = search(http, kb, {"tag1": "b"})
    assert ids(found) == [1, 3, 5]
    assert set(found[0]) == {"chunk_id", "meta_data", "name", "created_at", "updated_at"}
    assert set(search(http, kb, {"tag1": "b"}, return_content=True)[0]) == {*found[0], "chunk_content", "nonce"}
    assert search(http, kb, {"tag1": "a"}, projection=["tag2"]) == [
        {"chunk_id": 2, "meta_data": {}},
        {"chunk_id": 4, "meta_data": {}},
    ]
    every: tuple[Any, ...] = ({}, None, "{}", "null")
    for everything in every:
        assert ids(search(http, kb, everything)) == [1, 2, 3, 4, 5]
    assert ids(search(http, kb, '{"tag1": "a"}')) == [2, 4]


@pytest.mark.parametrize(
    ("meta_filter", "words"),
    [
        ({"tag6": "x"}, "tag6"),
        ({"tag1": {"$regex": "x"}}, "$regex"),
        ({"tag1": 3}, "tag1"),
        ({"facets": {"$size": "2"}}, "$size"),
        ("no json", "meta_filter"),
        ([1], "meta_filter"),
        ('{"tag1": "a\\u0000"}', "NUL"),
    ],
)
def test_a_bad_filter_is_a_422_that_names_it_everywhere(http: Http, kb: str, meta_filter: Any, words: str) -> None:
    bad = body(kb, meta_filter=meta_filter)
    calls = [
        http.data("POST", "/chunk/meta/{org}", json=bad),
        http.data("POST", "/chunk/meta/page/{org}", json=bad),
        http.data("DELETE", "/chunk/by-meta/{org}", json=bad | {"dry_run": False}),
        http.data("PATCH", "/chunk/by-meta/{org}", json=bad | {"patch": {}, "dry_run": False}),
        http.data("POST", "/compute_hamming/{org}", json=bad | {"query": []}),
    ]
    for answer in calls:
        assert words in problem(answer, 422, "invalid_filter")


def test_offset_pages_are_plain(http: Http, kb: str) -> None:
    http.insert(kb, [chunk(meta_data={"tag1": "x"} if i % 2 else {}) for i in range(10)])
    first = page(http, kb, limit=3)
    assert ids(first["results"]) == [10, 9, 8]
    assert (first["total"], first["limit"], first["offset"], first["has_more"]) == (10, 3, 0, True)
    last = page(http, kb, limit=3, offset=9, sort_order="asc")
    assert (ids(last["results"]), last["has_more"], last["next_page_token"]) == ([10], False, None)
    assert ids(page(http, kb, offset=8)["results"]) == [2, 1]
    everything = page(http, kb, meta_filter={"tag1": "x"})
    assert (len(everything["results"]), everything["limit"], everything["has_more"]) == (5, None, False)
    none = page(http, kb, limit=0)
    assert (none["results"], none["total"], none["has_more"], none["next_page_token"]) == ([], 10, True, None)
    assert page(http, kb, offset=10**30, limit=10**30)["results"] == []


def walk(http: Http, kb: str, insert_between: bool = False, **fields: Any) -> list[int]:
    token, seen, offset = None, [], 0
    while True:
        answer = page(http, kb, limit=2, page_token=token, **fields)
        assert answer["offset"] == offset
        seen += ids(answer["results"])
        offset = len(seen)
        token = answer["next_page_token"]
        assert answer["has_more"] == (token is not None)
        if token is None:
            return seen
        if insert_between:
            http.insert(kb, [chunk()])


@pytest.mark.parametrize("sort_by", ["chunk_id", "created_at", "updated_at", "tag1", "tag5"])
@pytest.mark.parametrize("sort_order", ["asc", "desc"])
def test_token_pages_give_every_chunk_once_in_order(http: Http, kb: str, sort_by: str, sort_order: str) -> None:
    tags = [("é", "1"), ("a", "2"), (None, "1"), ("B", "2"), ("", "3"), ("a", "1"), ("\U0001f600", None)]
    metas = [{"tag1": tag1, "tag5": tag5} for tag1, tag5 in tags]
    for meta in metas:
        http.insert(kb, [chunk(meta_data=meta)])

    def key(chunk_id: int) -> tuple[str, int]:
        return (metas[chunk_id - 1].get(sort_by) or "", chunk_id)

    expected = sorted(range(1, 8), key=key, reverse=sort_order == "desc")
    assert walk(http, kb, sort_by=sort_by, sort_order=sort_order) == expected


def test_token_pages_are_stable_under_insertion(http: Http, kb: str) -> None:
    http.insert(kb, [chunk() for _ in range(7)])
    assert walk(http, kb, insert_between=True) == [7, 6, 5, 4, 3, 2, 1]


def test_a_page_token_is_checked(http: Http, kb: str) -> None:
    http.insert(kb, [chunk() for _ in range(3)])
    token = page(http, kb, limit=1)["next_page_token"]
    for bad in ("x", "AAAA", token[:-4], token + "AAAA", "é"):
        answer = http.data("POST", "/chunk/meta/page/{org}", json=body(kb, page_token=bad))
        assert "page_token" in problem(answer, 422, "invalid")
    other = body(kb, page_token=token, sort_order="asc")
    assert "a different query" in problem(http.data("POST", "/chunk/meta/page/{org}", json=other), 422, "invalid")
    for wrong in ({"limit": -1}, {"offset": -1}, {"sort_by": "name"}, {"sort_order": "up"}, {"limit": "3"}):
        answer = http.data("POST", "/chunk/meta/page/{org}", json=body(kb, **wrong))
        assert next(iter(wrong)) in problem(answer, 422, "invalid")


def test_delete_by_metadata_deletes_what_a_dry_run_counts(http: Http, kb: str) -> None:
    http.save_context("other")
    http.insert(kb, [chunk(meta_data={"tag1": "a", "facets": ["x"]}) for _ in range(3)] + [chunk()])
    http.insert(kb, [chunk(meta_data={"tag1": "a"})], "other")
    wanted = body(kb, meta_filter={"tag1": "a"})
    assert ok(http.data("DELETE", "/chunk/by-meta/{org}", json=wanted | {"dry_run": True})) == {"would_delete_count": 3}
    assert ok(http.data("DELETE", "/chunk/by-meta/{org}", json=wanted | {"dry_run": False})) == {"deleted_count": 3}
    assert ids(http.get(kb, 1, 2, 3, 4, 5)) == [4, 5]
    assert ok(http.control("GET", f"/kbs/{kb}"))["numberOfVectors"] == 2
    unknown = wanted | {"context_id": "nowhere", "dry_run": False}
    assert ok(http.data("DELETE", "/chunk/by-meta/{org}", json=unknown)) == {"deleted_count": 0}


@pytest.mark.parametrize("missing", [{"meta_filter": None}, {"meta_filter": "null"}, {"meta_filter": " null "}, {}])
def test_a_missing_filter_deletes_and_patches_nothing(http: Http, kb: str, missing: dict[str, Any]) -> None:
    http.insert(kb, [chunk(meta_data={"tag1": "a"})])
    code = "invalid_filter" if missing else "invalid"
    for method, more in (("DELETE", {}), ("PATCH", {"patch": {"tag1": "b"}})):
        for dry_run in (True, False):
            sent = {"kb_id": kb, "context_id": "ctx", "dry_run": dry_run, **missing, **more}
            detail = problem(http.data(method, "/chunk/by-meta/{org}", json=sent), 422, code)
            assert "meta_filter" in detail
            assert ("{} matches every chunk" in detail) is bool(missing)
    (left,) = http.get(kb, 1)
    assert left["meta_data"] == {"tag1": "a"}
    everything = body(kb, meta_filter="{}") | {"dry_run": False}
    assert ok(http.data("DELETE", "/chunk/by-meta/{org}", json=everything)) == {"deleted_count": 1}


def test_patch_by_metadata_changes_what_a_dry_run_counts(http: Http, kb: str) -> None:
    http.insert(kb, [chunk(meta_data={"tag1": "a", "tag2": "b", "facets": ["draft"]}) for _ in range(3)])
    http.insert(kb, [chunk(meta_data={"tag1": "z"})])
    change = body(
        kb,
        meta_filter={"facets": {"$contains": "draft"}},
        patch={"facets": ["published", "2", "published"], "tag2": None, "tag3": "c"},
    )
    assert ok(http.data("PATCH", "/chunk/by-meta/{org}", json=change | {"dry_run": True})) == {"would_update_count": 3}
    assert ok(http.data("PATCH", "/chunk/by-meta/{org}", json=change | {"dry_run": False})) == {"updated_count": 3}
    (got, untouched) = http.get(kb, 3, 4)
    assert got["meta_data"] == {"tag1": "a", "tag3": "c", "facets": ["published", "2"]}
    assert got["updated_at"] > got["created_at"]
    assert (untouched["meta_data"], untouched["updated_at"]) == ({"tag1": "z"}, untouched["created_at"])
    assert ids(search(http, kb, {"facets": "published"})) == [1, 2, 3]
    bad = http.data("PATCH", "/chunk/by-meta/{org}", json=change | {"patch": {"name": "x"}})
    assert "name" in problem(bad, 422, "invalid")


@pytest.mark.parametrize("sort_by", ["chunk_id", "tag1"])
@pytest.mark.parametrize("sort_order", ["asc", "desc"])
def test_a_forged_page_token_selects_no_more_than_the_call_without_it(
    http: Http, kb: str, sort_by: Any, sort_order: Any
) -> None:
    """So tokens need no signature: kb, context and filter come from the request, the token says where to go on."""
    http.save_context("other")
    strangers = http.new_kb()
    for where, context in ((kb, "other"), (kb, "ctx"), (strangers, "ctx")):
        http.insert(where, [chunk(i, meta_data={"tag1": f"t{i % 3}", "tag2": "no"}) for i in range(1, 7)], context)
        http.insert(where, [chunk(i, meta_data={"tag1": f"t{i % 3}", "tag2": "yes"}) for i in range(1, 7)], context)
    call = {"meta_filter": {"tag2": "yes"}, "sort_by": sort_by, "sort_order": sort_order}
    scope = SearchScope(kb_id=kb, context_id="ctx", filter=parse_filter(call["meta_filter"]))
    digest = query_digest(scope, sort_by, sort_order)
    every = ids(page(http, kb, **call)["results"])
    assert sorted(every) == list(range(19, 25))
    own = decode_token(page(http, kb, limit=1, **call)["next_page_token"], digest)
    stranger = page(http, strangers, limit=1, **call)["next_page_token"]
    answer = http.data("POST", "/chunk/meta/page/{org}", json=body(kb, page_token=stranger, **call))
    assert "a different query" in problem(answer, 422, "invalid")
    for pk in {
        0,
        2**63 - 1,
        *[own.position.pk + i for i in range(-(2**33), 2**33, 2**31)],
        *range(own.position.pk, 30),
    }:
        for value in ("", "t1", "t2", "t9", "\U0010ffff", own.position.value):
            forged = encode_token(PageToken(digest, Position(value, pk), offset=pk))
            found = ids(page(http, kb, page_token=forged, **call)["results"])
            assert found == every[len(every) - len(found) :]
