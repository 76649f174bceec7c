"""`XTraceEmbeddingRetriever`, alone and in a pipeline."""

from pathlib import Path

import pytest
from haystack import Document, Pipeline
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.document_stores.types import FilterPolicy

from haystack_integrations.components.retrievers.xtrace import XTraceEmbeddingRetriever
from haystack_integrations.document_stores.xtrace import XTraceDocumentStore
from support.collecting import DIM, vector_of
from support.frameworks import NewCollection, watched_collection


def documents() -> list[Document]:
    embedded = [
        Document(id=f"{i}", content=f"text {i}", meta={"n": i}, embedding=vector_of(f"{i}").tolist()) for i in range(12)
    ]
    return [*embedded, Document(id="without", content="no embedding", meta={"n": 0})]


@pytest.fixture
def store(new_collection: NewCollection) -> XTraceDocumentStore:
    made = XTraceDocumentStore.over(new_collection(DIM))
    made.write_documents(documents())
    return made


QUERY = vector_of("query").tolist()


async def test_it_finds_what_the_reference_store_finds(store: XTraceDocumentStore) -> None:
    reference = InMemoryDocumentStore(embedding_similarity_function="cosine")
    reference.write_documents(documents())
    retriever = XTraceEmbeddingRetriever(store)
    for filters in (None, {"field": "meta.n", "operator": ">=", "value": 5}):
        expected = reference.embedding_retrieval(QUERY, filters, top_k=4)
        found = retriever.run(QUERY, filters, top_k=4)["documents"]
        assert [one.id for one in found] == [one.id for one in expected]
        assert [one.score for one in found] == pytest.approx([one.score for one in expected], abs=1e-6)
        assert (await retriever.run_async(QUERY, filters, 4))["documents"] == found
        assert [one.embedding for one in found] == [None] * 4


def test_parameters_choose_what_is_found(store: XTraceDocumentStore) -> None:
    few = {"field": "meta.n", "operator": "<", "value": 5}
    retriever = XTraceEmbeddingRetriever(store, filters=few, top_k=3, return_embedding=True)
    found = retriever.run(QUERY)["documents"]
    assert len(found) == 3
    assert all(one.meta["n"] < 5 and one.embedding for one in found)
    high = {"field": "meta.n", "operator": ">", "value": 3}
    assert {one.meta["n"] for one in retriever.run(QUERY, high, 20)["documents"]} == set(range(4, 12))
    merging = XTraceEmbeddingRetriever(store, filters=few, filter_policy="merge")
    fourth = {"field": "content", "operator": "in", "value": ["text 4", "text 7"]}
    assert [one.id for one in merging.run(QUERY, fourth)["documents"]] == ["4"]
    exact = XTraceEmbeddingRetriever(store, min_similarity=0.99)
    assert [one.id for one in exact.run(vector_of("7").tolist())["documents"]] == ["7"]
    with pytest.raises(ValueError, match="expected an XTraceDocumentStore"):
        XTraceEmbeddingRetriever(InMemoryDocumentStore())  # type: ignore[arg-type]


async def test_it_runs_in_pipelines(store: XTraceDocumentStore) -> None:
    pipeline = Pipeline()
    pipeline.add_component("retriever", XTraceEmbeddingRetriever(store, top_k=1))
    data = {"retriever": {"query_embedding": vector_of("3").tolist()}}
    for result in (pipeline.run(data), await pipeline.run_async(data)):
        assert [one.content for one in result["retriever"]["documents"]] == ["text 3"]


def test_a_pipeline_is_written_and_read_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XTRACE_API_KEY", "Zirkelquadratur")
    pipeline = Pipeline()
    retriever = XTraceEmbeddingRetriever(XTraceDocumentStore("letters"), top_k=3, filter_policy=FilterPolicy.MERGE)
    pipeline.add_component("retriever", retriever)
    text = pipeline.dumps()
    assert "XTRACE_API_KEY" in text
    assert "Zirkelquadratur" not in text
    again = Pipeline.loads(text).get_component("retriever")
    assert isinstance(again, XTraceEmbeddingRetriever)
    assert again.to_dict() == retriever.to_dict()


MARKS = {
    "text": "Quetzalcoatl owes the bank eleven million",
    "id": "Schwippschwager-4711",
    "field": "Zahlungsmoral",
    "value": "miserable beyond Popayan",
    "value after an update": "Schuldnerverzeichnis",
}


async def test_nothing_secret_reaches_the_server(tmp_path: Path) -> None:
    text, key, field, value, changed = MARKS.values()
    with watched_collection(tmp_path, DIM) as watched:
        store = XTraceDocumentStore.over(watched.collection)
        store.write_documents([Document(id=key, content=text, meta={field: value}, embedding=QUERY)])
        await store.write_documents_async([Document(content=text, meta={field: changed})])
        filters = {"field": f"meta.{field}", "operator": "in", "value": [value, changed]}
        assert len(store.filter_documents(filters)) == 2
        assert len(XTraceEmbeddingRetriever(store).run(QUERY, filters)["documents"]) == 1
        assert await store.update_by_filter_async(filters, {field: changed}) == 2
        assert store.get_metadata_field_unique_values(field) == ([changed], 1)
        store.delete_documents([key])
        assert store.delete_by_filter(filters) == 1
        assert watched.found(MARKS) == []
