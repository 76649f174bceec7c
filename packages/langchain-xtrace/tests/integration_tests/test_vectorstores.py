"""`XTraceVectorStore` passes LangChain's conformance kit, and does what its docstrings say."""

from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_core.indexing import InMemoryRecordManager, aindex, index
from langchain_core.vectorstores import InMemoryVectorStore, VectorStore
from langchain_tests.integration_tests import VectorStoreIntegrationTests
from langchain_tests.integration_tests.vectorstores import EMBEDDING_SIZE

from langchain_xtrace import XTraceVectorStore
from support.collecting import DIM, Model
from support.frameworks import NewCollection
from xtrace_sdk.errors import InvalidArgument, InvalidFilter, InvalidVector

MODEL = DeterministicFakeEmbedding(size=16)
TEXTS = ["a", "b", "c", "d"]
METADATAS = [{"n": i, "inside": {"odd": bool(i % 2)}, "tags": ["all", f"t{i}"]} for i in range(4)]
IDS = ["1", "2", "3", "4"]


class TestConformance(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, new_collection: NewCollection) -> VectorStore:
        return XTraceVectorStore(new_collection(EMBEDDING_SIZE), self.get_embeddings())


@pytest.fixture
def store(new_collection: NewCollection) -> XTraceVectorStore:
    return XTraceVectorStore.from_texts(TEXTS, MODEL, METADATAS, ids=IDS, collection=new_collection(16))


def ids(documents: list[Document]) -> set[str | None]:
    return {one.id for one in documents}


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"n": {"$gt": 1}}, {"3", "4"}),
        ({"inside.odd": True}, {"2", "4"}),
        ({"tags": {"$contains": "t2"}}, {"3"}),
        ({"$or": [{"n": 0}, {"$text": "d"}]}, {"1", "4"}),
        ('{"n": {"$in": [1, 2]}}', {"2", "3"}),
        (None, set(IDS)),
    ],
)
async def test_filters_are_those_of_a_collection(store: XTraceVectorStore, where: str | None, expected: object) -> None:
    assert ids(store.similarity_search("b", 9, filter=where)) == expected
    assert ids(await store.asimilarity_search_by_vector(MODEL.embed_query("b"), 9, filter=where)) == expected
    assert ids(store.max_marginal_relevance_search("b", 9, filter=where)) == expected


async def test_filters_and_options_that_are_not_known_are_refused(store: XTraceVectorStore) -> None:
    for wrong in ({"n": {"$regex": "x"}}, lambda document: True):
        with pytest.raises(InvalidFilter):
            store.similarity_search("b", filter=wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="where_document"):
        store.similarity_search("b", where_document={})
    with pytest.raises(InvalidArgument, match="where_document"):
        await store.asimilarity_search("b", where_document={})


async def test_every_search_finds_what_the_reference_store_finds(store: XTraceVectorStore) -> None:
    reference = InMemoryVectorStore.from_texts(TEXTS, MODEL, METADATAS, ids=IDS)
    # Not the text of a document: all others would be as good a second choice.
    for query in ("bb", "something else"):
        vector = MODEL.embed_query(query)
        expected = reference.similarity_search_with_score(query, 3)
        for found in (
            store.similarity_search_with_score(query, 3),
            store.similarity_search_with_score_by_vector(vector, 3),
            await store.asimilarity_search_with_score(query, 3),
            await store.asimilarity_search_with_score_by_vector(vector, 3),
        ):
            assert [one for one, _ in found] == [one for one, _ in expected]
            assert [score for _, score in found] == pytest.approx([score for _, score in expected], abs=1e-6)
        documents = [one for one, _ in expected]
        assert store.similarity_search_by_vector(vector, 3) == documents
        assert await store.asimilarity_search(query, 3) == documents
        for weight in (0.0, 0.5, 1.0):
            options: dict[str, Any] = {"k": 3, "fetch_k": 4, "lambda_mult": weight}
            chosen = reference.max_marginal_relevance_search(query, **options)
            assert store.max_marginal_relevance_search(query, **options) == chosen
            assert store.max_marginal_relevance_search_by_vector(vector, **options) == chosen
            assert await store.amax_marginal_relevance_search(query, **options) == chosen
            assert await store.amax_marginal_relevance_search_by_vector(vector, **options) == chosen


async def test_relevance_is_between_0_and_1_and_thresholds_hold(store: XTraceVectorStore) -> None:
    for found in (
        store.similarity_search_with_relevance_scores("b", 4),
        await store.asimilarity_search_with_relevance_scores("b", 4),
    ):
        assert found[0][0].id == "2"
        assert found[0][1] == pytest.approx(1)
        assert all(0 <= relevance <= 1 for _, relevance in found)
    retriever = store.as_retriever(
        search_type="similarity_score_threshold", search_kwargs={"score_threshold": 0.99, "k": 4}
    )
    assert ids(retriever.invoke("c")) == ids(await retriever.ainvoke("c")) == {"3"}
    assert ids(store.as_retriever(search_type="mmr", search_kwargs={"k": 2}).invoke("c")) > {"3"}
    assert ids(store.similarity_search("c", min_similarity=0.99)) == {"3"}


async def test_documents_come_back_as_they_were_stored(new_collection: NewCollection) -> None:
    store = await XTraceVectorStore.afrom_texts(
        ["first"], MODEL, [{"a": [1, {"b": None}]}], collection=new_collection(16)
    )
    (first,) = await store.asimilarity_search("first")
    assert (first.page_content, first.metadata) == ("first", {"a": [1, {"b": None}]})
    assert await store.aadd_documents([Document("x", id="own"), Document("y")], ids=None) != ["own", None]
    assert store.get_by_ids(["own", "unknown"])[0].page_content == "x"
    assert store.add_texts(iter(["z"]), ids=["own"]) == ["own"]
    assert [one.page_content for one in await store.aget_by_ids(["own"])] == ["z"]
    assert store.add_texts([]) == []
    assert await store.adelete(["own", "unknown"])
    assert store.get_by_ids(["own"]) == []
    assert store.delete()
    assert await store.asimilarity_search("first") == []


def test_counts_and_lengths_must_match(store: XTraceVectorStore, new_collection: NewCollection) -> None:
    with pytest.raises(ValueError, match="got 2 texts but 1 ids; the counts must match"):
        store.add_texts(["a", "b"], ids=["1"])
    with pytest.raises(ValueError, match="got 1 texts but 2 metadatas"):
        store.add_texts(["a"], [{}, {}])
    with pytest.raises(InvalidVector):
        XTraceVectorStore(new_collection(8), MODEL).add_texts(["a"])


async def test_without_a_model_the_collection_embeds(new_collection: NewCollection) -> None:
    store = XTraceVectorStore(new_collection(DIM, embedding=Model()))
    store.add_texts(["one", "two"], ids=["1", "2"])
    await store.aadd_texts(["three"], ids=["3"])
    assert store.embeddings is None
    assert store.similarity_search("two", 1)[0].id == "2"
    ((document, score),) = await store.asimilarity_search_with_score("three", 1)
    assert document.id == "3"
    assert score == pytest.approx(1)
    assert [one.id for one in await store.amax_marginal_relevance_search("one", 1)] == ["1"]


def test_a_collection_of_either_kind_serves(store: XTraceVectorStore) -> None:
    again = XTraceVectorStore(store._collection.asynchronous, MODEL)
    assert again.similarity_search("a", 1) == store.similarity_search("a", 1)


class WholeNumbers(Embeddings):
    """A model whose vectors are whole numbers."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[1 if letter in text else 0 for letter in "abcdefgh"] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


def test_vectors_of_whole_numbers_are_not_taken_for_bits(new_collection: NewCollection) -> None:
    store = XTraceVectorStore.from_texts(["abc", "abcd", "gh"], WholeNumbers(), collection=new_collection(8))
    ((document, score),) = store.similarity_search_with_score("abc", 1)
    assert document.page_content == "abc"
    assert score == pytest.approx(1)


async def test_indexing_stores_changes_alone_and_removes_what_is_gone(new_collection: NewCollection) -> None:
    """`langchain_core.indexing` with this store, as with any."""
    store, records = XTraceVectorStore(new_collection(16), MODEL), InMemoryRecordManager("letters")
    records.create_schema()
    letters = [Document(f"letter {i}", metadata={"source": f"{i}"}) for i in range(3)]
    options: dict[str, Any] = {"cleanup": "full", "source_id_key": "source", "key_encoder": "sha256"}
    assert index(letters, records, store, **options)["num_added"] == 3
    letters[0] = Document("letter 0, corrected", metadata={"source": "0"})
    done = await aindex(letters[:2], records, store, **options)
    assert done == {"num_added": 1, "num_updated": 0, "num_skipped": 1, "num_deleted": 2}
    found = store.similarity_search("letter", 9)
    assert {one.page_content for one in found} == {"letter 0, corrected", "letter 1"}
