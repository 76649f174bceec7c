"""The encrypted search over HTTP: right products, right candidates, never stale."""

import random
from typing import Any

import pytest

from support.service import Http, b64, chunk, problem, running_service
from support.toy_paillier import toy_key

CLUSTER = True
pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def kb(http: Http) -> str:
    http.save_context()
    return http.new_kb()


QUERY = [toy_key().encrypt(1000)]


def sums(rows: list[Any]) -> dict[int, int]:
    """What the rows decrypt to, by chunk id; each row has its three elements."""
    assert [row[1] for row in rows] == sorted(row[1] for row in rows)
    return {chunk_id: toy_key().decrypt(ciphertexts[0]) for ciphertexts, chunk_id, _ in rows}


def test_a_row_is_the_product_of_index_and_query(http: Http, kb: str) -> None:
    http.insert(kb, [chunk(i, nonce=b64(bytes([i] * 14))) for i in range(1, 6)])
    rows = http.search(kb, QUERY)
    assert sums(rows) == {i: 1000 + i for i in range(1, 6)}
    assert [row[2] for row in rows] == [bytes([i] * 14) for i in range(1, 6)]


def test_every_ciphertext_of_an_index_meets_its_own(http: Http, kb: str) -> None:
    key = toy_key()
    http.insert(kb, [chunk() | {"index": [b64(key.encrypt(i)), b64(key.encrypt(10 * i))]} for i in (1, 2)])
    rows = http.search(kb, [key.encrypt(100), key.encrypt(200)])
    assert [[key.decrypt(one) for one in row[0]] for row in rows] == [[101, 210], [102, 220]]
    assert "expected 2" in problem(search(http, kb, [b64(QUERY[0])]), 422, "invalid_ciphertext")


def test_the_query_1_is_answered_with_the_stored_ciphertexts(http: Http, kb: str) -> None:
    key = toy_key()
    indexes = [[key.encrypt(i), key.encrypt(10 * i)] for i in (1, 2)]
    http.insert(kb, [chunk() | {"index": [b64(one) for one in index]} for index in indexes])
    rows = http.search(kb, [b"\x01", b"\x01"])
    assert [[one.rstrip(b"\0") for one in row[0]] for row in rows] == [
        [one.rstrip(b"\0") for one in index] for index in indexes
    ]


def test_range_bounds_ids_both_included(http: Http, kb: str) -> None:
    http.insert(kb, [chunk(i) for i in range(1, 8)])
    for cached in (False, True):
        assert list(sums(http.search(kb, QUERY, range=[3, 5]))) == [3, 4, 5], cached
        assert list(sums(http.search(kb, QUERY, range=[6, 10**30]))) == [6, 7]
        assert list(sums(http.search(kb, QUERY, range=[-(10**30), 1]))) == [1]
        assert http.search(kb, QUERY, range=[5, 3]) == []
        assert http.search(kb, QUERY, range=[100, 200]) == []
        assert http.search(kb, QUERY, range=[-5, -1]) == []
        assert len(http.search(kb, QUERY, range=None)) == 7


def test_a_filter_restricts_the_candidates(http: Http, kb: str) -> None:
    http.insert(kb, [chunk(i, meta_data={"tag1": f"u{i % 3}", "facets": [f"f{i}"]}) for i in range(1, 10)])
    for cached in (False, True):
        assert list(sums(http.search(kb, QUERY, meta_filter={"tag1": "u1"}))) == [1, 4, 7], cached
        found = http.search(kb, QUERY, meta_filter='{"tag1": "u1"}', range=[2, 5])
        assert sums(found) == {4: 1004}
        assert http.search(kb, QUERY, meta_filter={"facets": "none"}) == []
        assert len(http.search(kb, QUERY, meta_filter={})) == 9
    bad = search(http, kb, [b64(QUERY[0])], meta_filter={"tag7": "x"})
    assert "tag7" in problem(bad, 422, "invalid_filter")


def test_a_search_sees_every_write_before_it(http: Http, kb: str) -> None:
    dice = random.Random(0)
    expected: dict[int, int] = {}
    http.save_context("other")
    for step in range(40):
        match dice.randrange(4):
            case 0 | 1:
                values = [dice.randrange(100) for _ in range(dice.randrange(1, 5))]
                ids = http.insert(kb, [chunk(value) for value in values])
                expected |= dict(zip(ids, values, strict=True))
            case 2 if expected:
                gone = dice.choice(list(expected))
                http.data("DELETE", "/chunk/{org}", params={"kb_id": kb, "chunk_ids": [gone]})
                del expected[gone]
            case 3 if expected:
                changed = dice.choice(list(expected))
                update = [{"chunk_id": changed, **chunk(step)}]
                context = dice.choice(["ctx", "other"])
                body = {"kb_id": kb, "context_id": context, "chunk_updates": update}
                http.data("PUT", "/chunk/{org}", json=body)
                if context == "ctx":
                    expected[changed] = step
                else:
                    del expected[changed]
        found = sums(http.search(kb, QUERY))
        assert found == {i: 1000 + value for i, value in sorted(expected.items())}


def test_candidates_are_those_of_the_context(http: Http, kb: str) -> None:
    http.save_context("other", toy_key(1))
    http.insert(kb, [chunk(1)])
    http.insert(kb, [chunk(2, key=toy_key(1))], "other")
    assert list(sums(http.search(kb, QUERY))) == [1]
    assert [row[1] for row in http.search(kb, [toy_key(1).encrypt(0)], "other")] == [2]


def test_an_empty_knowledge_base_answers_an_empty_array(http: Http, kb: str) -> None:
    assert http.search(kb, QUERY) == []


def search(http: Http, kb: str, query: list[str], context: str = "ctx", **body: Any) -> Any:
    body |= {"kb_id": kb, "context_id": context, "query": query}
    return http.data("POST", "/compute_hamming/{org}", json=body)


@pytest.mark.parametrize("stored", [True, False])
def test_a_query_that_is_no_ciphertext_is_a_422(http: Http, kb: str, stored: bool) -> None:
    if stored:
        http.insert(kb, [chunk()])
    for query in ([], [b64(b"")], [b64(b"\xff" * 128)], [b64(b"\x01" * 129)]):
        assert "query" in problem(search(http, kb, query), 422, "invalid_ciphertext")
    problem(search(http, kb, ["§"]), 422, "invalid")


def test_a_search_needs_the_context_stored(http: Http, kb: str) -> None:
    detail = problem(search(http, kb, [b64(QUERY[0])], "nowhere"), 404, "context_not_found")
    assert "save the context first" in detail


@pytest.mark.parametrize("cache_bytes", [0, 2000])
def test_rows_without_room_in_the_cache_are_read_each_time(tmp_path: Any, cache_bytes: int) -> None:
    with running_service(tmp_path / "data", cache_bytes=cache_bytes, search_memory_bytes=1000) as service:
        http = Http(service.first_credentials)
        http.save_context()
        kb = http.new_kb()
        http.insert(kb, [chunk(i, meta_data={"tag1": "odd"} if i % 2 else {}) for i in range(1, 31)])
        for _ in range(2):
            assert sums(http.search(kb, QUERY)) == {i: 1000 + i for i in range(1, 31)}
            assert list(sums(http.search(kb, QUERY, meta_filter={"tag1": "odd"}))) == list(range(1, 31, 2))
            assert list(sums(http.search(kb, QUERY, range=[2, 4]))) == [2, 3, 4]
        http.close()
