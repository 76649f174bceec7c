"""An existing client of the HTTP contract: what it stores it gets back, and its searches get the right products."""

import base64
import json
from typing import Any

import pytest

from docs.examples import ROOT
from support.service import Http, ok

VECTORS = ROOT / "tests" / "vectors" / "existing-client"
OCTETS = {"content-type": "application/octet-stream"}


@pytest.fixture(params=["paillier", "paillier_lookup"])
def data(request: pytest.FixtureRequest) -> dict[str, Any]:
    written: dict[str, Any] = json.loads((VECTORS / f"{request.param}.json").read_text())
    return written


def stored(http: Http, data: dict[str, Any]) -> str:
    """Saves the client's context and chunks as it does, and gives the knowledge base."""
    kb_id = http.new_kb()
    body = {"data": data["context"], "context_id": data["context_id"]}
    assert ok(http.data("POST", "/exec_context/{org}", json=body)) == {"context_id": data["context_id"]}
    chunks = [
        {
            "chunk_content": row["chunk_content"],
            "index": row["index"],
            "meta_data": {"tag1": f"row {i}", "tag2": None, "facets": ["a", "b", "a"]},
            "name": "",
        }
        for i, row in enumerate(data["rows"])
    ]
    assert http.insert(kb_id, chunks, data["context_id"]) == [1, 2, 3, 4, 5]
    return kb_id


def test_the_products_are_those_that_the_client_expects(http: Http, data: dict[str, Any]) -> None:
    kb_id = stored(http, data)
    query = [base64.b64decode(ciphertext) for ciphertext in data["query_index"]]
    rows = http.search(kb_id, query, data["context_id"])
    assert [row[1] for row in rows] == [1, 2, 3, 4, 5]
    for row, expected in zip(rows, data["rows"], strict=True):
        products = [int.from_bytes(base64.b64decode(text), "little") for text in expected["product_with_query"]]
        assert [int.from_bytes(product, "little") for product in row[0]] == products
    assert [row[1] for row in http.search(kb_id, query, data["context_id"], range=[2, 3])] == [2, 3]
    found = http.search(kb_id, query, data["context_id"], meta_filter='{"tag1": {"$in": ["row 1", "row 4"]}}')
    assert [row[1] for row in found] == [2, 5]
    assert len(http.search(kb_id, query, data["context_id"], meta_filter=None, range=None)) == 5


def test_chunks_and_contexts_come_back_as_they_were_stored(http: Http, data: dict[str, Any]) -> None:
    kb_id = stored(http, data)
    for chunk, row in zip(http.get(kb_id, 5, 1, 77, 3), [data["rows"][i] for i in (4, 0, 2)], strict=True):
        assert chunk["chunk_content"] == row["chunk_content"]
        assert [int_of(text) for text in chunk["index"]] == [int_of(text) for text in row["index"]]
        assert chunk["meta_data"]["facets"] == ["a", "b"]
        assert "tag2" not in chunk["meta_data"]
    assert ok(http.data("GET", f"/exec_context/{{org}}/{data['context_id']}")) == data["context"]
    assert ok(http.data("GET", "/exec_context/{org}")) == {"contexts": [data["context_id"]]}
    contexts = ok(http.data("GET", f"/exec_context/{{org}}/{kb_id}/context", headers=OCTETS))
    assert contexts == {"context_ids": [data["context_id"]]}
    kbs = ok(http.data("GET", f"/exec_context/{{org}}/{data['context_id']}/kb", headers=OCTETS))
    assert kbs == {"kb_ids": [kb_id]}
    assert http.data("DELETE", f"/exec_context/{{org}}/{data['context_id']}", headers=OCTETS).status_code == 409


def test_saving_the_context_again_is_no_conflict(http: Http, data: dict[str, Any]) -> None:
    stored(http, data)
    body = {"data": data["context"], "context_id": data["context_id"]}
    for _ in range(2):
        ok(http.data("POST", "/exec_context/{org}", json=body))


def int_of(text: str) -> int:
    return int.from_bytes(base64.b64decode(text), "little")
