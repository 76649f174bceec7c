"""The keys of what a filter matches take memory: it is counted, given back, and refused where it is not free."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from support.service import Http, LiveService, b64, chunk, ok, problem, running_service
from support.toy_paillier import toy_key
from xtrace_server.storage.chunks import KEY_BYTES

BODY = 64 * 1024
MOST = 3 * BODY // KEY_BYTES
"""One organisation may have half of what requests may take: six bodies of the greatest size, three times each."""
TOO_MANY, FEW = MOST + 104, 100
QUERY = [b64(toy_key().encrypt(1000))]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    folder = tmp_path_factory.mktemp("keys")
    sizes = {"max_body_bytes": BODY, "cache_bytes": 0, "search_memory_bytes": 0, "memory_bytes": 64 * 2**20 + 6 * BODY}
    with running_service(folder, metrics="loopback", **sizes) as service:
        yield service


@pytest.fixture(scope="module")
def http(service: LiveService) -> Iterator[Http]:
    http = Http(service.first_credentials)
    yield http
    http.close()


@pytest.fixture(scope="module")
def kb(http: Http) -> str:
    http.save_context()
    kb = http.new_kb()
    for _ in range(TOO_MANY // 100):
        http.insert(kb, [chunk(chunk_content="", meta_data={"tag1": "all"})] * 100)
    http.insert(kb, [chunk(chunk_content="", meta_data={"tag1": "few"})] * FEW)
    return kb


def body(kb: str, tag: str, **more: Any) -> dict[str, Any]:
    return {"kb_id": kb, "context_id": "ctx", "meta_filter": {"tag1": tag}, **more}


CALLS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "search": ("POST", "/compute_hamming/{org}", {"query": QUERY}),
    "metadata": ("POST", "/chunk/meta/{org}", {}),
    "page": ("POST", "/chunk/meta/page/{org}", {}),
    "patch": ("PATCH", "/chunk/by-meta/{org}", {"patch": {"tag2": "x"}}),
    "delete": ("DELETE", "/chunk/by-meta/{org}", {}),
}


@pytest.mark.parametrize("call", CALLS)
def test_more_matches_than_there_is_memory_for_are_refused(http: Http, kb: str, call: str) -> None:
    method, path, more = CALLS[call]
    before = ok(http.control("GET", f"/kbs/{kb}"))["numberOfVectors"]
    refused = http.data(method, path, json=body(kb, "all", **more))
    assert "memory_bytes" in problem(refused, 503, "overloaded")
    assert int(refused.headers["retry-after"]) > 0
    assert taken(http) == 0
    assert ok(http.control("GET", f"/kbs/{kb}"))["numberOfVectors"] == before
    assert http.data(method, path, json=body(kb, "few", **more)).status_code == 200
    assert taken(http) == 0


def taken(http: Http) -> float:
    (size,) = re.findall(r'xtrace_memory_bytes\{part="keys"\} (\S+)', http.client.get("/metrics").text)
    return float(size)
