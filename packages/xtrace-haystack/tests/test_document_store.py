"""`XTraceDocumentStore` passes Haystack's conformance kits, and does what its docstrings say."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from haystack import Document
from haystack.dataclasses import ByteStream, SparseEmbedding
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DocumentStore, DuplicatePolicy
from haystack.errors import FilterError
from haystack.testing import document_store as kit
from haystack.testing import document_store_async as async_kit
from haystack.utils import Secret

from haystack_integrations.document_stores.xtrace import XTraceDocumentStore
from support.frameworks import NewCollection
from xtrace_server.credentials import Credentials

DIM = 768
"""Of the kits' embeddings."""


@pytest.fixture
def document_store(new_collection: NewCollection) -> XTraceDocumentStore:
    return XTraceDocumentStore.over(new_collection(DIM))


def in_float32(document: Document) -> Document:
    """The document with an embedding as it is stored."""
    if document.embedding is None:
        return document
    return dataclasses.replace(document, embedding=np.asarray(document.embedding, np.float32).tolist())


class OverXTrace:
    """What the kits are run on. As in other stores' tests, embeddings are stored in single precision."""

    @pytest.fixture
    def document_store(self, new_collection: NewCollection) -> XTraceDocumentStore:
        return XTraceDocumentStore.over(new_collection(DIM))

    @staticmethod
    def assert_documents_are_equal(received: list[Document], expected: list[Document]) -> None:
        assert received == [in_float32(one) for one in expected]


class TestConformance(
    OverXTrace,
    kit.DocumentStoreBaseExtendedTests,
    kit.CountDocumentsByFilterTest,
    kit.CountUniqueMetadataByFilterTest,
    kit.GetMetadataFieldsInfoTest,
    kit.GetMetadataFieldMinMaxTest,
    kit.GetMetadataFieldUniqueValuesTest,
):
    def test_write_documents(self, document_store: DocumentStore) -> None:
        documents = [Document(content="test doc")]
        assert document_store.write_documents(documents) == 1
        with pytest.raises(DuplicateDocumentError):
            document_store.write_documents(documents)


class TestAsyncConformance(
    OverXTrace,
    async_kit.CountDocumentsAsyncTest,
    async_kit.CountDocumentsByFilterAsyncTest,
    async_kit.CountUniqueMetadataByFilterAsyncTest,
    async_kit.DeleteAllAsyncTest,
    async_kit.DeleteByFilterAsyncTest,
    async_kit.DeleteDocumentsAsyncTest,
    async_kit.FilterDocumentsAsyncTest,
    async_kit.GetMetadataFieldMinMaxAsyncTest,
    async_kit.GetMetadataFieldUniqueValuesAsyncTest,
    async_kit.GetMetadataFieldsInfoAsyncTest,
    async_kit.UpdateByFilterAsyncTest,
    async_kit.WriteDocumentsAsyncTest,
):
    async def test_write_documents_async(self, document_store: XTraceDocumentStore) -> None:
        documents = [Document(content="test doc")]
        assert await document_store.write_documents_async(documents) == 1
        with pytest.raises(DuplicateDocumentError):
            await document_store.write_documents_async(documents)


def test_every_class_of_the_kits_is_run() -> None:
    for module, tested in ((kit, TestConformance), (async_kit, TestAsyncConformance)):
        for name, one in vars(module).items():
            has_tests = isinstance(one, type) and any(member.startswith("test_") for member in dir(one))
            if has_tests and one.__module__ == module.__name__:
                assert issubclass(tested, one), name


def test_all_of_a_document_comes_back(document_store: XTraceDocumentStore) -> None:
    whole = Document(
        id="whole",
        content="text",
        blob=ByteStream(b"\x00\xff", {"name": "x.bin"}, "application/octet-stream"),
        meta={"inside": {"list": [1, 1.5, None, "x"]}, "truth": False},
        embedding=[0.5] * DIM,
        sparse_embedding=SparseEmbedding([1, 7], [0.25, 0.5]),
    )
    document_store.write_documents([whole, Document(id="bare")])
    assert document_store.filter_documents() == [whole, Document(id="bare")]


def test_filters_lead_to_every_part_of_a_document(document_store: XTraceDocumentStore) -> None:
    document_store.write_documents(
        [
            Document(id="a", content="first", meta={"inside": {"n": 1}, "at": "2026-03-01T12:00:00+02:00"}),
            Document(id="b", content="second", meta={"inside": {"n": 2}, "at": "2026-03-01T11:00:00Z"}),
        ]
    )

    def found(field: str, operator: str, value: object) -> list[str]:
        filters = {"field": field, "operator": operator, "value": value}
        return [one.id for one in document_store.filter_documents(filters)]

    assert found("id", "in", ["b", "c"]) == ["b"]
    assert found("content", "==", "first") == ["a"]
    assert found("meta.inside.n", ">", 1) == ["b"]
    assert found("meta.at", ">", "2026-03-01T10:30:00Z") == ["b"]
    assert found("embedding", "==", None) == ["a", "b"]
    assert document_store.filter_documents({"operator": "AND", "conditions": []}) != []
    assert document_store.filter_documents({"operator": "OR", "conditions": []}) == []
    assert document_store.filter_documents({"operator": "NOT", "conditions": []}) == []


@pytest.mark.parametrize(
    "wrong",
    [
        "meta.n == 1",
        {"field": "meta.n", "operator": "~", "value": 1},
        {"field": "meta.n", "operator": ">", "value": True},
        {"field": "meta.n", "operator": "<", "value": {}},
        {"operator": "XOR", "conditions": []},
    ],
)
def test_filters_that_say_nothing_are_refused(document_store: XTraceDocumentStore, wrong: object) -> None:
    with pytest.raises(FilterError):
        document_store.filter_documents(wrong)  # type: ignore[arg-type]


def test_counts_of_what_was_written(document_store: XTraceDocumentStore) -> None:
    first, second = Document(id="1", content="a"), Document(id="2", content="b")
    assert document_store.write_documents([first], DuplicatePolicy.FAIL) == 1
    assert document_store.write_documents([first, second], DuplicatePolicy.SKIP) == 1
    assert document_store.write_documents([first, second], DuplicatePolicy.OVERWRITE) == 2
    assert document_store.write_documents([]) == 0


def credentials_in_environment(credentials: Credentials, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XTRACE_ORG_ID", credentials.org_id)
    monkeypatch.setenv("XTRACE_API_KEY", credentials.api_key)
    monkeypatch.setenv("XTRACE_ADMIN_KEY", credentials.admin_key)
    monkeypatch.setenv("XTRACE_API_URL", credentials.api_url)
    monkeypatch.setenv("XTRACE_PASSPHRASE", "Zirkelquadratur-Passphrase")


async def test_a_store_is_serialised_without_secrets_and_finds_its_documents_again(
    credentials: Credentials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials_in_environment(credentials, monkeypatch)
    store = XTraceDocumentStore("again", context_path=str(tmp_path / "keys.json"), embedding_dim=16, namespace="n")
    await store.write_documents_async([Document(id="1", content="a", embedding=[1.0] * 16)])
    data = store.to_dict()
    text = json.dumps(data)
    for secret in (credentials.org_id, credentials.api_key, credentials.admin_key, "Zirkelquadratur"):
        assert secret not in text
        assert secret not in repr(store)
    again = XTraceDocumentStore.from_dict(json.loads(text))
    assert again.to_dict() == data
    assert [one.id for one in again.filter_documents()] == ["1"]
    for one in (store, again):
        one.close()
    assert again.count_documents() == 1


def test_what_cannot_be_serialised_without_secrets_is_refused(document_store: XTraceDocumentStore) -> None:
    with pytest.raises(ValueError, match="cannot be serialised"):
        document_store.to_dict()
    with pytest.raises(ValueError, match="oken"):
        XTraceDocumentStore(passphrase=Secret.from_token("Zirkelquadratur-Passphrase")).to_dict()
