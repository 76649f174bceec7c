"""A scheme whose queries and answers have other shapes than its rows: stored, searched, filtered, changed, moved."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.odd_shapes import TYPE
from support.service import Http, LiveService, b64, ok, problem, running_service
from xtrace_core import frames
from xtrace_server.schemes import SchemeUnusable, load_schemes
from xtrace_server.serving import CannotServe, start
from xtrace_server.settings import Settings

pytestmark = pytest.mark.usefixtures("database")

DATA = {"type": TYPE, "pk": "{}", "config": "{}"}


@pytest.fixture(scope="module")
def odd_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    with running_service(tmp_path_factory.mktemp("odd"), insecure_schemes="support.odd_shapes:SCHEMES") as service:
        yield service


@pytest.fixture
def odd(odd_service: LiveService) -> Iterator[Http]:
    http = Http(odd_service.new_organisation())
    ok(http.data("POST", "/exec_context/{org}", json={"context_id": "ctx", "data": DATA}))
    yield http
    http.close()


def chunk(row: bytes, **fields: Any) -> dict[str, Any]:
    return {"chunk_content": "text", "index": [b64(row)], "meta_data": {}, **fields}


def batch(http: Http, kb: str, queries: list[list[bytes]]) -> dict[int, list[bytes]]:
    """The ciphertexts for each chunk, from frames."""
    body = {"kb_id": kb, "context_id": "ctx", "queries": [[b64(one) for one in query] for query in queries]}
    answer = http.data("POST", "/compute_hamming_batch/{org}", json=body)
    assert answer.status_code == 200, answer.text
    reader = frames.FrameReader()
    found = {}
    for part in reader.feed(answer.content):
        for chunk_id, ciphertexts in zip(part.chunk_ids.tolist(), part.ciphertexts, strict=True):
            found[chunk_id] = [ciphertext.tobytes() for ciphertext in ciphertexts]
    reader.close()
    return found


def test_queries_and_answers_have_their_own_shapes(odd: Http) -> None:
    kb = odd.new_kb()
    assert odd.search(kb, []) == []
    odd.insert(kb, [chunk(b"abcdef"), chunk(b"AB", meta_data={"tag1": "x"}, nonce=b64(b"n"))])
    assert odd.search(kb, []) == [[[b"abcdef"], 1, None], [[b"AB"], 2, b"n"]]
    assert odd.search(kb, [b"\1"], meta_filter={"tag1": "x"}) == [[[b"BC\1\1\1\1", b"\0\0\0\0BA"], 2, b"n"]]
    assert odd.search(kb, [], range=[2, 9]) == [[[b"AB"], 2, b"n"]]
    assert batch(odd, kb, [[], [b"\1"]]) == {
        1: [b"abcdef", b"bcdefg", b"fedcba"],
        2: [b"AB\0\0\0\0", b"BC\1\1\1\1", b"\0\0\0\0BA"],
    }


def test_what_the_scheme_refuses_is_refused(odd: Http) -> None:
    kb = odd.new_kb()
    body: dict[str, Any] = {"kb_id": kb, "context_id": "ctx", "chunks": [chunk(b"1234567")]}
    sentence = problem(odd.data("POST", "/chunk/{org}", json=body), 422, "invalid_ciphertext")
    assert sentence == "chunks[0].index: expected one ciphertext of at most six bytes"
    body = {"kb_id": kb, "context_id": "ctx", "query": [b64(b"ab")]}
    sentence = problem(odd.data("POST", "/compute_hamming/{org}", json=body), 422, "invalid_ciphertext")
    assert sentence == "query: expected no ciphertext, or one of one byte"


def test_chunks_are_read_changed_and_deleted(odd: Http) -> None:
    kb = odd.new_kb()
    odd.insert(kb, [chunk(b"a"), chunk(b"b"), chunk(b"c")])
    patch = {"kb_id": kb, "context_id": "ctx", "chunk_patches": [{"chunk_id": 2, "index": [b64(b"B")]}]}
    ok(odd.data("PATCH", "/chunk/{org}", json=patch))
    ok(odd.data("DELETE", "/chunk/{org}", params={"kb_id": kb, "chunk_ids": [1]}))
    assert [one["index"] for one in odd.get(kb, 2, 3)] == [[b64(b"B")], [b64(b"c")]]
    assert odd.search(kb, []) == [[[b"B"], 2, None], [[b"c"], 3, None]]


def test_a_server_does_not_know_it_unless_told(http: Http) -> None:
    refused = http.data("POST", "/exec_context/{org}", json={"context_id": "odd", "data": DATA})
    assert "the type is 'InsecureOddShapes', expected one of PaillierClient" in problem(refused, 422, "invalid")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("support.odd_shapes:NAMED_LIKE_A_REAL_ONE", "loads the type 'PaillierClient', expected Insecure…"),
        ("support.odd_shapes:nothing", "cannot be loaded"),
        ("no.such.module:SCHEMES", "cannot be loaded"),
        ("support.odd_shapes", "cannot be loaded"),
        ("support.odd_shapes:TYPE", "cannot be loaded"),
        ("", "cannot be loaded"),
    ],
)
def test_what_cannot_be_loaded_stops_the_start(name: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(SchemeUnusable, match=sentence):
        load_schemes([name])
    with pytest.raises(CannotServe, match=sentence):
        start(Settings(data=tmp_path, port=0, insecure_schemes=(name,)))


def test_it_is_said_loudly(caplog: pytest.LogCaptureFixture) -> None:
    load_schemes(["support.odd_shapes:SCHEMES"])
    assert [(one.levelname, TYPE in one.getMessage()) for one in caplog.records] == [("CRITICAL", True)]
