"""`XTraceRetriever` passes LangChain's conformance kit."""

from typing import Any

import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.retrievers import BaseRetriever
from langchain_tests.integration_tests import RetrieversIntegrationTests

from langchain_xtrace import XTraceRetriever, XTraceVectorStore
from support.frameworks import NewCollection

TEXTS = [f"text {i}" for i in range(6)]


@pytest.fixture
def store(new_collection: NewCollection) -> XTraceVectorStore:
    return XTraceVectorStore.from_texts(
        TEXTS,
        DeterministicFakeEmbedding(size=16),
        [{"n": i} for i in range(6)],
        ids=TEXTS,
        collection=new_collection(16),
    )


class TestConformance(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True)
    def _store(self, store: XTraceVectorStore) -> None:
        self.store = store

    @property
    def retriever_constructor(self) -> type[BaseRetriever]:
        return XTraceRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"vectorstore": self.store}

    @property
    def retriever_query_example(self) -> str:
        return "text 3"


async def test_fields_choose_what_is_found(store: XTraceVectorStore) -> None:
    for fields, expected in (
        ({"k": 1}, ["text 3"]),
        ({"filter": {"n": {"$lt": 2}}}, ["text 0", "text 1"]),
        ({"min_similarity": 0.99}, ["text 3"]),
        ({"lambda_mult": 1.0, "k": 1}, ["text 3"]),
    ):
        retriever = XTraceRetriever(vectorstore=store, **fields)
        found, afound = retriever.invoke("text 3"), await retriever.ainvoke("text 3")
        assert sorted(one.page_content for one in found) == expected
        assert found == afound
    assert len(retriever.invoke("text 3", k=3, lambda_mult=0.1)) == 3
