"""The framed answer says what the MessagePack answer says, for one query and for many."""

from typing import Any

import httpx2
import pytest

from support.service import Http, b64, chunk, problem
from support.toy_paillier import toy_key
from xtrace_core.frames import MEDIA_TYPE, FrameReader
from xtrace_core.wire import MAX_QUERIES

CLUSTER = True
pytestmark = pytest.mark.usefixtures("database")

QUERIES = [[toy_key().encrypt(1000)], [toy_key().encrypt(2000)], [toy_key().encrypt(3000)]]


@pytest.fixture
def kb(http: Http) -> str:
    http.save_context()
    return http.new_kb()


def rows_of(answer: httpx2.Response, queries: int = 1) -> list[list[Any]]:
    """The rows as the MessagePack answer has them; those of several queries one after another."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == MEDIA_TYPE
    reader = FrameReader()
    rows: list[list[Any]] = [[] for _ in range(queries)]
    for block in reader.feed(answer.content):
        for i, chunk_id in enumerate(block.chunk_ids.tolist()):
            ciphertexts = [one.tobytes().rstrip(b"\0") for one in block.ciphertexts[i]]
            nonce = block.nonces[i].tobytes()[: int(block.nonce_lengths[i])] or None
            each = len(ciphertexts) // queries
            for q in range(queries):
                rows[q].append([ciphertexts[q * each : (q + 1) * each], chunk_id, nonce])
    reader.close()
    return rows


def framed(http: Http, kb: str, query: list[bytes], **body: Any) -> httpx2.Response:
    body |= {"kb_id": kb, "context_id": "ctx", "query": [b64(one) for one in query]}
    accept = {"accept": f"{MEDIA_TYPE}, application/x-msgpack"}
    return http.data("POST", "/compute_hamming/{org}", json=body, headers=accept)


def batch(http: Http, kb: str, queries: list[list[bytes]], **body: Any) -> httpx2.Response:
    body |= {"kb_id": kb, "context_id": "ctx", "queries": [[b64(one) for one in query] for query in queries]}
    return http.data("POST", "/compute_hamming_batch/{org}", json=body)


def test_frames_and_messagepack_say_the_same(http: Http, kb: str) -> None:
    nonces = [None, b64(bytes(14)), b64(b"short")]
    http.insert(kb, [chunk(i, nonce=nonces[i % 3], meta_data={"tag1": f"u{i % 2}"}) for i in range(2000)])
    for restriction in ({}, {"range": [100, 1500]}, {"meta_filter": {"tag1": "u1"}}, {"range": [9999, 99999]}):
        plain = http.search(kb, QUERIES[0], **restriction)
        (rows,) = rows_of(framed(http, kb, QUERIES[0], **restriction))
        assert rows == plain


def test_several_ciphertexts_a_row_come_in_order(http: Http, kb: str) -> None:
    key = toy_key()
    http.insert(kb, [chunk() | {"index": [b64(key.encrypt(i)), b64(key.encrypt(10 * i))]} for i in (1, 2)])
    query = [key.encrypt(100), key.encrypt(200)]
    assert rows_of(framed(http, kb, query)) == [http.search(kb, query)]
    found = rows_of(batch(http, kb, [query, query[::-1]]), 2)
    assert found == [http.search(kb, query), http.search(kb, query[::-1])]


def test_a_batch_answers_each_query_as_it_would_be_alone(http: Http, kb: str) -> None:
    http.insert(kb, [chunk(i, nonce=b64(bytes([i] * 14))) for i in range(1, 6)])
    assert rows_of(batch(http, kb, QUERIES), 3) == [http.search(kb, query) for query in QUERIES]
    assert rows_of(batch(http, kb, QUERIES, range=[2, 3]), 3) == [
        http.search(kb, query, range=[2, 3]) for query in QUERIES
    ]


def test_an_empty_knowledge_base_answers_no_rows(http: Http, kb: str) -> None:
    assert rows_of(framed(http, kb, QUERIES[0])) == [[]]
    assert rows_of(batch(http, kb, QUERIES), 3) == [[], [], []]


def test_bad_queries_are_named(http: Http, kb: str) -> None:
    http.insert(kb, [chunk()])
    assert "queries" in problem(batch(http, kb, []), 422, "invalid")
    assert "queries" in problem(batch(http, kb, [QUERIES[0]] * (MAX_QUERIES + 1)), 422, "invalid")
    assert "queries" in problem(batch(http, kb, [QUERIES[0], []]), 422, "invalid_ciphertext")
    assert "queries" in problem(batch(http, kb, [QUERIES[0], QUERIES[0] * 2]), 422, "invalid_ciphertext")
    assert "queries" in problem(batch(http, kb, [[b"\0"]]), 422, "invalid_ciphertext")
