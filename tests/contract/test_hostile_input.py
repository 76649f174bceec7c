"""What a malicious client can put where: every answer is a clean 4xx, never a 5xx."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from support.service import Http, b64, chunk, problem, running_service
from support.toy_paillier import toy_key
from xtrace_core.wire import MSGPACK

pytestmark = pytest.mark.usefixtures("database")

STRINGS = ["", "\0", "%00", "%ED%A0%80", "'", '"; DROP TABLE chunk; --', "%", "../..", "x" * 5000, "é\U0010ffff"]
NUMBERS: list[Any] = [2**63, -(2**63) - 1, 10**400, 0, -1, 1.5, "1", None, True, [], {}]


def is_clean(answer: Any) -> None:
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.fixture
def kb(http: Http) -> str:
    http.save_context()
    kb = http.new_kb()
    http.insert(kb, [chunk()])
    return kb


@pytest.mark.parametrize("text", STRINGS)
def test_strings_in_paths_queries_headers_and_bodies(http: Http, kb: str, text: str) -> None:
    part = text if text.startswith("%") else quote(text, safe="")
    for path in (f"/exec_context/{{org}}/{part}", f"/exec_context/{{org}}/{part}/kb", f"/chunk/{part}"):
        is_clean(http.data("GET", path.replace("{org}", http.org)))
    is_clean(http.control("GET", f"/kbs/{part}"))
    is_clean(http.control("GET", f"/keys/{part}/permissions"))
    is_clean(http.data("GET", f"/chunk/{http.org}?kb_id={part}&chunk_ids={part}&projection={part}"))
    is_clean(http.data("GET", f"/chunk/{http.org}?{part}"))
    header = text.encode("utf-8").replace(b"\0", b"")[:1000]
    for name in ("x-api-key", "idempotency-key", "content-type", "content-length-x"):
        body = {"kb_id": kb, "context_id": "ctx", "chunks": []}
        headers: dict[str, Any] = {**http.data_headers, name: header}
        is_clean(http.client.post(f"/v1/chunk/{http.org}", json=body, headers=headers))
    for body in (
        {"kb_id": text, "context_id": text, "names": [text]},
        {"kb_id": kb, "context_id": text, "names": [text]},
        {"kb_id": kb, "context_id": "ctx", "names": [text]},
    ):
        is_clean(http.data("POST", "/chunk/names/{org}", json=body))
    search: dict[str, Any] = {"kb_id": kb, "context_id": "ctx", "meta_filter": {"tag1": {"$contains": text}}}
    is_clean(http.data("POST", "/chunk/meta/{org}", json=search))
    is_clean(http.data("POST", "/chunk/meta/page/{org}", json=search | {"page_token": text, "limit": 1}))
    sent = chunk(meta_data={"tag1": text, "facets": [text]}, name=text) | {"chunk_content": text}
    is_clean(http.data("POST", "/chunk/{org}", json={"kb_id": kb, "context_id": "ctx", "chunks": [sent]}))


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: str(number)[:20])
def test_numbers_of_any_size_and_kind(http: Http, kb: str, number: Any) -> None:
    base: dict[str, Any] = {"kb_id": kb, "context_id": "ctx"}
    query = [b64(toy_key().encrypt(1))]
    is_clean(http.data("POST", "/compute_hamming/{org}", json=base | {"query": query, "range": [number, number]}))
    is_clean(http.data("POST", "/compute_hamming/{org}", json=base | {"query": [number]}))
    for field in ("limit", "offset", "page_token", "sort_by", "projection", "return_content", "meta_filter"):
        is_clean(http.data("POST", "/chunk/meta/page/{org}", json=base | {field: number}))
    updates = [{"chunk_id": number, **chunk()}]
    is_clean(http.data("PUT", "/chunk/{org}", json=base | {"chunk_updates": updates}))
    is_clean(http.data("PATCH", "/chunk/{org}", json=base | {"chunk_patches": [{"chunk_id": number}]}))
    is_clean(http.data("POST", "/chunk/meta/{org}", json=base | {"meta_filter": {"facets": {"$size": number}}}))
    params = {"kb_id": kb, "chunk_ids": str(number)}
    is_clean(http.data("GET", "/chunk/{org}", params=params))
    is_clean(http.data("DELETE", "/chunk/{org}", params=params))


_HEAD = b'{"kb_id": "%s", "context_id": "ctx", '
_ONE = b'{"chunk_content": "", "index": ['


@pytest.mark.parametrize(
    ("path", "text", "status", "code", "words"),
    [
        ("/chunk/", b'"chunks": [' + b"0," * 2_000_000 + b"0]}", 413, "too_large", "max_chunks"),
        ("/chunk/", b'"chunks": [' + _ONE + b'"",' * 800_000 + b'""]}]}', 422, "limit_exceeded", "chunks[0]"),
        ("/chunk/", b'"chunks": [{"x": ' + b"[[],0]," * 9 + b"[" * 2**20, 422, "limit_exceeded", "chunks[0]"),
        ("/chunk/", b'"x": [' + b"[]," * 800_000 + b'0], "chunks": []}', 422, "limit_exceeded", "beside chunks"),
        (
            "/chunk/",
            b'"chunks": [' + b",".join([_ONE + b'"AQ==",' * 700 + b'"AQ=="]}'] * 4000) + b"]}",
            413,
            "too_large",
            "max_body_bytes",
        ),
        (
            "/chunk/",
            b'"chunks": [' + b",".join([_ONE + b'"AQ==",' * 700 + b'"AQ=="]}'] * 1500) + b"]}",
            413,
            "too_large",
            "full width",
        ),
        ("/chunk/names/", b'"names": [' + b'"",' * 800_000 + b'""]}', 413, "too_large", "max_ids"),
        ("/chunk/meta/", b'"meta_filter": [' + b"0," * 800_000 + b"0]}", 422, "limit_exceeded", "the body"),
        ("/chunk/", b'"chunks": [], "chunks": ' + b"[0], " * 2 + b" " * 300_000, 400, "malformed", "malformed"),
    ],
    ids=["elements", "values", "depth", "unknown", "values together", "full width", "names", "filter", "twice"],
)
def test_a_large_body_of_tiny_values_is_refused_unread(
    http: Http, kb: str, path: str, text: bytes, status: int, code: str, words: str
) -> None:
    answer = http.data("POST", path + http.org, content=_HEAD % kb.encode() + text)
    assert words in problem(answer, status, code)


def test_the_widest_filters_are_answered(http: Http, kb: str) -> None:
    from xtrace_core.metadata_filter import MAX_VALUES

    values = [f"v{i}" for i in range(MAX_VALUES)]
    for filter_ in (
        {"tag1": {"$in": values}},
        {"tag1": {"$nin": values}},
        {"facets": {"$all": values}},
        {"facets": {"$none": values}},
        {"$or": [{"tag1": {"$begins_with": f"a{i}"}} for i in range(240)]},
        {"$nor": [{"facets": f"a{i}"} for i in range(240)]},
        {"$and": [{"tag1": {"$ne": f"a{i}"}} for i in range(240)]},
    ):
        body = {"kb_id": kb, "context_id": "ctx", "meta_filter": filter_}
        answer = http.data("POST", "/chunk/meta/{org}", json=body)
        assert answer.status_code == 200, answer.text


# MessagePack, of which every length stands before what it is the length of

CHUNKS = b"\x83\xa5kb_id\xa1k\xaacontext_id\xa1c\xa6chunks"
"""The body of an insertion up to its chunks."""
INDEX = CHUNKS + b"\x91\x81\xa5index"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "malformed"),
        (b"\xc1", 400, "malformed"),
        (CHUNKS, 400, "malformed"),
        (CHUNKS + b"\x90\x00", 400, "malformed"),
        (CHUNKS + b"\xdd\xff\xff\xff\xff", 400, "malformed"),
        (CHUNKS + b"\xdf\xff\xff\xff\xff", 400, "malformed"),
        (INDEX + b"\xdd\xff\xff\xff\xff", 400, "malformed"),
        (INDEX + b"\x91\xc6\xff\xff\xff\xff", 400, "malformed"),
        (INDEX + b"\x91\xc9\xff\xff\xff\xff\x05", 400, "malformed"),
        (b"\x81\xa5kb_id\xdb\xff\xff\xff\xff", 400, "malformed"),
        (CHUNKS.replace(b"\xa1k\xaa", b"\xa1\xff\xaa") + b"\x90", 400, "malformed"),
        (CHUNKS.replace(b"\xa1k\xaa", b"\xa3\xed\xa0\x80\xaa") + b"\x90", 400, "malformed"),
        (CHUNKS.replace(b"\xa1k\xaa", b"\xa1\x00\xaa") + b"\x90", 422, "invalid"),
        (b"\x91" * 30_000 + b"\xc0", 422, "invalid"),
        (b"\x91" * 300_000 + b"\xc0", 422, "limit_exceeded"),
        (b"\x84\xa1x" + b"\x91" * 30_000 + b"\xc0" + CHUNKS[1:] + b"\x90", 422, "invalid"),
        (b"\x84\xa1x" + b"\x91" * 300_000 + b"\xc0" + CHUNKS[1:] + b"\x90", 422, "limit_exceeded"),
        (CHUNKS + b"\x91" * 300_000 + b"\xc0", 422, "limit_exceeded"),
        (CHUNKS + b"\x91\x81\xa1x\xdd\x00\x0f\x42\x40" + b"\xc0" * 1_000_000, 422, "limit_exceeded"),
        (CHUNKS + b"\xdc\x75\x30" + b"\xc0" * 300_000, 413, "too_large"),
        (CHUNKS + b"\xdd\xff\xff\xff\xff" + b"\xc0" * 300_000, 413, "too_large"),
        (CHUNKS + b"\xdc\x10\x68" + (b"\x81\xa1x\xdc\x02\xbc" + b"\xc0" * 700) * 4200, 413, "too_large"),
        (b"\x84" + CHUNKS[1:] + b"\x90\xa6chunks\xdc\x10\x68" + b"\xc0" * 300_000, 422, "invalid"),
        (b"\xc0", 422, "invalid"),
        (b"\x90", 422, "invalid"),
        (b"\x81\x01\x02", 422, "invalid"),
        (CHUNKS + b"\xd4\x05a", 422, "invalid"),
        (CHUNKS + b"\xd6\xff\x00\x00\x00\x00", 422, "invalid"),
        (CHUNKS + b"\x91\xc7\x01\x05a", 422, "invalid"),
        (INDEX + b"\x91\xa4AQ==", 422, "invalid"),
        (INDEX + b"\xc4\x01a", 422, "invalid"),
        (CHUNKS + b"\x91\x81\xadchunk_content\xc4\x01a", 422, "invalid"),
        (CHUNKS + b"\x91\x81\xa9meta_data\x81\xa4tag1\xcb\x7f\xf8" + bytes(6), 422, "invalid"),
    ],
    ids=lambda part: part[-24:].hex() if isinstance(part, bytes) else None,
)
def test_hostile_messagepack_is_refused_as_hostile_json_is(http: Http, body: bytes, status: int, code: str) -> None:
    for method in ("POST", "PUT", "PATCH"):
        answer = http.data(method, "/chunk/{org}", content=body, headers={"content-type": MSGPACK})
        is_clean(answer)
        if method == "POST":
            problem(answer, status, code)


def test_the_limits_of_messagepack_are_those_of_json(tmp_path: Path) -> None:
    limits = {"max_body_bytes": 400_000, "max_chunks": 3, "max_content_bytes": 100, "max_ciphertexts": 2}
    with running_service(tmp_path / "data", **limits) as service:
        for packs in (False, True):
            http = Http(service.first_credentials, packs)
            http.save_context()
            kb = http.new_kb()
            for chunks, status, code, words in (
                ([chunk()] * 4, 413, "too_large", "max_chunks"),
                ([chunk(more="x" * 100_000)] * 3 + [1], 413, "too_large", "max_chunks"),
                ([chunk(more="x" * 100_000)] * 4, 413, "too_large", "max_body_bytes"),
                ([chunk(chunk_content="x" * 101)], 422, "limit_exceeded", "max_content_bytes"),
                ([chunk(index=chunk()["index"] * 3)], 422, "limit_exceeded", "max_ciphertexts"),
            ):
                answer = http.data("POST", "/chunk/{org}", json={"kb_id": kb, "context_id": "ctx", "chunks": chunks})
                assert words in problem(answer, status, code)
            http.close()
