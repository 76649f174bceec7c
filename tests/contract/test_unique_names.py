"""Names that one chunk has, where the writer asks for it: over plain HTTP, with every kind of later write."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from support.service import Http, b64, chunk, ok, problem
from support.toy_paillier import toy_key

POSTGRES_BY_DEFAULT = True

QUERY = [toy_key().encrypt(1000)]


@pytest.fixture
def kb(http: Http) -> str:
    http.save_context()
    return http.new_kb()


def insert(
    http: Http, kb: str, names: list[str], on_conflict: Any, message: int = 1, context: str = "ctx", **more: Any
) -> httpx2.Response:
    chunks = [chunk(message, name=name, **more) for name in names]
    body = {"kb_id": kb, "context_id": context, "chunks": chunks, "on_conflict": on_conflict}
    return http.data("POST", "/chunk/{org}", json=body)


def names(http: Http, kb: str, *ids: int) -> list[str]:
    return [one["name"] for one in http.get(kb, *ids, projection=("name",))]


def messages(http: Http, kb: str, context: str = "ctx") -> list[tuple[int, int]]:
    """The chunks that a search finds, by id, and what their vectors hold."""
    return [(row[1], toy_key().decrypt(row[0][0]) - 1000) for row in http.search(kb, QUERY, context)]


def count(http: Http, kb: str) -> int:
    return int(ok(http.control("GET", f"/kbs/{kb}"))["numberOfVectors"])


@pytest.mark.parametrize("packs", [False, True])
def test_each_mode_says_what_it_did_with_each_chunk(http: Http, kb: str, packs: bool) -> None:
    http.packs = packs
    assert ok(insert(http, kb, ["a", "b"], "skip")) == {"chunk_ids": [1, 2], "results": ["inserted", "inserted"]}
    answer = ok(insert(http, kb, ["c", "a"], "skip", message=2))
    assert answer == {"chunk_ids": [3, 1], "results": ["inserted", "known"]}
    assert messages(http, kb) == [(1, 1), (2, 1), (3, 2)]
    answer = ok(
        insert(http, kb, ["b", "d"], "replace", message=5, meta_data={"tag1": "x", "facets": ["f"]}, nonce=b64(b"n"))
    )
    assert answer == {"chunk_ids": [2, 4], "results": ["replaced", "inserted"]}
    assert messages(http, kb) == [(1, 1), (2, 5), (3, 2), (4, 5)]
    (replaced,) = http.get(kb, 2)
    assert (replaced["chunk_content"], replaced["name"], replaced["nonce"]) == ("content 5", "b", b64(b"n"))
    assert replaced["meta_data"] == {"tag1": "x", "facets": ["f"]}
    assert replaced["updated_at"] > replaced["created_at"]
    detail = problem(insert(http, kb, ["e", "a", "f", "d"], "fail"), 409, "names_taken")
    assert "chunks[1, 3]" in detail
    assert count(http, kb) == 4
    assert ok(insert(http, kb, ["e"], "fail")) == {"chunk_ids": [5], "results": ["inserted"]}


def test_without_it_names_mean_nothing(http: Http, kb: str) -> None:
    body = {"kb_id": kb, "context_id": "ctx", "chunks": [chunk(name="same")] * 20}
    assert ok(http.data("POST", "/chunk/{org}", json=body)) == {"chunk_ids": list(range(1, 21))}
    assert ok(insert(http, kb, ["same"], "fail"))["results"] == ["inserted"]
    assert ok(insert(http, kb, ["same"], "skip")) == {"chunk_ids": [21], "results": ["known"]}
    assert ok(insert(http, kb, ["same"], None)) == {"chunk_ids": [22]}
    assert http.insert(kb, [chunk(name="same")]) == [23]


def test_a_name_is_unique_in_a_knowledge_base_and_context(http: Http, kb: str) -> None:
    http.save_context("other")
    places = [(kb, "ctx"), (kb, "other"), (http.new_kb(), "ctx")]
    assert [ok(insert(http, place, ["a"], "fail", context=context))["results"] for place, context in places] == [
        ["inserted"]
    ] * 3


@pytest.mark.parametrize(
    ("sent", "on_conflict", "words"),
    [
        (["a", ""], "skip", "chunks[1].name is missing or empty"),
        (["a", None], "fail", "chunks[1].name is missing or empty"),
        (["a", "b", "a"], "replace", "chunks[2].name occurs twice in the request"),
        (["a"], "overwrite", "on_conflict"),
        (["a"], 1, "on_conflict"),
    ],
)
def test_what_cannot_be_unique_is_a_422(http: Http, kb: str, sent: Any, on_conflict: Any, words: str) -> None:
    assert words in problem(insert(http, kb, sent, on_conflict), 422, "invalid")
    assert count(http, kb) == 0


def test_a_repeated_request_gets_the_same_answer(http: Http, kb: str) -> None:
    body = {"kb_id": kb, "context_id": "ctx", "chunks": [chunk(name="a")], "on_conflict": "fail"}
    for _ in range(2):
        answer = ok(http.data("POST", "/chunk/{org}", json=body, headers={"Idempotency-Key": "k"}))
        assert answer == {"chunk_ids": [1], "results": ["inserted"]}
    problem(http.data("POST", "/chunk/{org}", json=body, headers={"Idempotency-Key": "l"}), 409, "names_taken")


# Later writes


def update(http: Http, kb: str, changes: dict[int, str | None], context: str = "ctx") -> httpx2.Response:
    updates = [{**chunk(7, name=name), "chunk_id": chunk_id} for chunk_id, name in changes.items()]
    return http.data("PUT", "/chunk/{org}", json={"kb_id": kb, "context_id": context, "chunk_updates": updates})


def patch(http: Http, kb: str, changes: dict[int, str | None]) -> httpx2.Response:
    patches = [{"chunk_id": chunk_id, "name": name} for chunk_id, name in changes.items()]
    return http.data("PATCH", "/chunk/{org}", json={"kb_id": kb, "context_id": "ctx", "chunk_patches": patches})


@pytest.mark.parametrize("write", [update, patch])
def test_a_write_that_takes_anothers_name_changes_nothing(http: Http, kb: str, write: Any) -> None:
    ok(insert(http, kb, ["a", "b", "c"], "skip"))
    assert "chunk 2 " in problem(write(http, kb, {1: "x", 2: "a", 3: "c"} | {1: "a"}), 409, "names_taken")
    assert "chunk 2 " in problem(write(http, kb, {1: "y", 2: "y"}), 409, "names_taken")
    assert names(http, kb, 1, 2, 3) == ["a", "b", "c"]
    assert messages(http, kb) == [(1, 1), (2, 1), (3, 1)]


@pytest.mark.parametrize("write", [update, patch])
def test_names_change_hands_within_one_write(http: Http, kb: str, write: Any) -> None:
    ok(insert(http, kb, ["a", "b", "c"], "skip"))
    ok(write(http, kb, {1: "b", 2: "c", 3: "a"}))
    assert names(http, kb, 1, 2, 3) == ["b", "c", "a"]
    assert ok(insert(http, kb, ["a", "b", "c"], "skip"))["chunk_ids"] == [3, 1, 2]


@pytest.mark.parametrize("write", [update, patch])
def test_a_renamed_chunk_stays_unique_under_its_new_name_alone(http: Http, kb: str, write: Any) -> None:
    ok(insert(http, kb, ["a"], "skip"))
    ok(write(http, kb, {1: "b"}))
    answer = ok(insert(http, kb, ["a", "b"], "skip"))
    assert answer == {"chunk_ids": [2, 1], "results": ["inserted", "known"]}


@pytest.mark.parametrize("empty", ["", None])
@pytest.mark.parametrize("write", [update, patch])
def test_a_chunk_without_a_name_is_unique_no_more(http: Http, kb: str, write: Any, empty: str | None) -> None:
    ok(insert(http, kb, ["a", "b"], "skip"))
    ok(write(http, kb, {1: empty, 2: empty}))
    assert ok(insert(http, kb, ["a"], "fail"))["chunk_ids"] == [3]
    ok(write(http, kb, {1: "a"}))  # it is one that anybody may name alike now


def test_an_ordinary_chunk_takes_any_name(http: Http, kb: str) -> None:
    ok(insert(http, kb, ["a"], "skip"))
    http.insert(kb, [chunk(name="x")])
    ok(update(http, kb, {2: "a"}))
    ok(patch(http, kb, {2: "b"}))
    ok(patch(http, kb, {2: "a"}))
    assert ok(insert(http, kb, ["a", "b"], "skip"))["results"] == ["known", "inserted"]


def test_a_chunk_that_moves_takes_its_name_along(http: Http, kb: str) -> None:
    http.save_context("new")
    ok(insert(http, kb, ["a", "b"], "skip"))
    ok(update(http, kb, {1: "a"}, "new"))
    assert ok(insert(http, kb, ["a"], "skip", context="new")) == {"chunk_ids": [1], "results": ["known"]}
    assert ok(insert(http, kb, ["a"], "skip")) == {"chunk_ids": [3], "results": ["inserted"]}
    assert "chunk 3 " in problem(update(http, kb, {2: "b", 3: "a"}, "new"), 409, "names_taken")
    assert messages(http, kb) == [(2, 1), (3, 1)]
    assert messages(http, kb, "new") == [(1, 7)]


def test_a_deleted_chunk_frees_its_name(http: Http, kb: str) -> None:
    ok(insert(http, kb, ["a", "b"], "skip"))
    ok(http.data("DELETE", "/chunk/{org}", params={"kb_id": kb, "chunk_ids": 1}))
    by_meta = {"kb_id": kb, "context_id": "ctx", "meta_filter": {}}
    assert ok(insert(http, kb, ["a"], "fail"))["chunk_ids"] == [3]
    ok(http.data("DELETE", "/chunk/by-meta/{org}", json=by_meta))
    assert ok(insert(http, kb, ["a", "b"], "fail"))["chunk_ids"] == [4, 5]


def test_a_name_is_known_also_among_thousands(http: Http, kb: str) -> None:
    many = [f"n{i}" for i in range(2500)]
    ok(insert(http, kb, many, "skip"))
    answer = ok(insert(http, kb, [*reversed(many), "new"], "skip"))
    assert answer["chunk_ids"] == [*range(2500, 0, -1), 2501]
    assert answer["results"] == ["known"] * 2500 + ["inserted"]
    assert ok(insert(http, kb, many, "replace", message=3))["results"] == ["replaced"] * 2500
    assert count(http, kb) == 2501


def test_of_many_writers_at_once_each_name_is_stored_by_one(http: Http, kb: str) -> None:
    wanted = [f"n{i}" for i in range(40)]

    def write(number: int) -> list[str]:
        mine = Http(http.credentials)
        outcomes: list[str] = []
        for start in range(0, 40, 8):
            mode = "skip" if number % 2 else "replace"
            outcomes += ok(insert(mine, kb, wanted[start : start + 8], mode, message=number))["results"]
        mine.close()
        return outcomes

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(write, range(8)))
    assert [sum(outcomes[i] == "inserted" for outcomes in done) for i in range(40)] == [1] * 40
    assert count(http, kb) == 40
    assert all("replaced" not in outcomes for outcomes in done[1::2])
