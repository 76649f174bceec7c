"""`XTraceVectorStore` beside LlamaIndex's own `SimpleVectorStore`, and in a `VectorStoreIndex`."""

import random
from typing import Any

import numpy as np
import pytest
from llama_index.core import Document, MockEmbedding, StorageContext, VectorStoreIndex
from llama_index.core.schema import ImageNode, IndexNode, NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores import SimpleVectorStore
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)

from llama_index.vector_stores.xtrace import XTraceVectorStore
from support.frameworks import NewCollection
from xtrace_sdk.errors import InvalidFilter

DIM = 16
CHANCE = np.random.default_rng(4)
VECTORS = CHANCE.normal(size=(24, DIM)).tolist()
QUERY = CHANCE.normal(size=DIM).tolist()


def nodes() -> list[TextNode]:
    """Nodes of four documents; fields are missing here and there."""
    made = []
    for i, vector in enumerate(VECTORS):
        metadata: dict[str, Any] = {
            "n": i,
            "half": i / 2,
            "topic": f"topic {i % 3}",
            "tags": [f"t{i % 4}", f"t{i % 5}"],
        }
        if i % 6 == 0:
            del metadata["topic"]
        if i % 4 == 0:
            metadata["tags"] = []
        if i % 7 == 0:
            metadata["topic"] = ""
        source = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=f"document {i % 4}")}
        made.append(
            TextNode(id_=f"node {i}", text=f"text {i}", metadata=metadata, embedding=vector, relationships=source)
        )
    return made


@pytest.fixture
def store(new_collection: NewCollection) -> XTraceVectorStore:
    made = XTraceVectorStore(new_collection(DIM))
    assert made.add(nodes()) == [node.node_id for node in nodes()]
    return made


@pytest.fixture
def simple() -> SimpleVectorStore:
    made = SimpleVectorStore()
    made.add(nodes())
    return made


def leaf(key: str, operator: FilterOperator, value: Any = None) -> MetadataFilter:
    return MetadataFilter(key=key, operator=operator, value=value)


LEAVES = [
    leaf("n", FilterOperator.EQ, 3),
    leaf("topic", FilterOperator.EQ, "topic 1"),
    leaf("topic", FilterOperator.NE, "topic 1"),
    leaf("n", FilterOperator.GT, 20),
    leaf("half", FilterOperator.GTE, 10.5),
    leaf("half", FilterOperator.LT, 1.5),
    leaf("n", FilterOperator.LTE, 2),
    leaf("n", FilterOperator.IN, [1, 5, 99]),
    leaf("topic", FilterOperator.IN, ["topic 0", "topic 2"]),
    leaf("topic", FilterOperator.NIN, ["topic 0", "topic 2"]),
    leaf("tags", FilterOperator.ANY, ["t3", "t4"]),
    leaf("tags", FilterOperator.ALL, ["t1", "t3"]),
    leaf("tags", FilterOperator.CONTAINS, "t2"),
    leaf("topic", FilterOperator.TEXT_MATCH, "pic 2"),
    leaf("topic", FilterOperator.TEXT_MATCH_INSENSITIVE, "TOPIC 0"),
    leaf("topic", FilterOperator.IS_EMPTY),
    leaf("tags", FilterOperator.IS_EMPTY),
    leaf("ref_doc_id", FilterOperator.EQ, "document 2"),
]


async def asked(store: BasePydanticVectorStore, **more: Any) -> list[tuple[str, float]]:
    """What the store finds, the same in both forms."""
    query = VectorStoreQuery(**{"query_embedding": QUERY, "similarity_top_k": 30, **more})
    result = store.query(query)
    again = await store.aquery(query)
    assert again.ids == result.ids
    assert again.similarities == result.similarities
    return list(zip(result.ids or [], result.similarities or [], strict=True))


def approximately(found: list[tuple[str, float]]) -> list[tuple[str, Any]]:
    return [(one, pytest.approx(similarity, abs=1e-6)) for one, similarity in found]


def test_every_operator_is_among_the_leaves() -> None:
    assert {one.operator for one in LEAVES} == set(FilterOperator)


@pytest.mark.parametrize("one", LEAVES, ids=lambda one: f"{one.key} {one.operator.value}")
async def test_every_operator_decides_as_the_reference_store(
    store: XTraceVectorStore, simple: SimpleVectorStore, one: MetadataFilter
) -> None:
    expected = await asked(simple, filters=MetadataFilters(filters=[one]))
    assert 0 < len(expected) < len(VECTORS)
    assert approximately(await asked(store, filters=MetadataFilters(filters=[one]))) == expected


@pytest.mark.parametrize("condition", FilterCondition)
async def test_every_condition_decides_as_the_reference_store(
    store: XTraceVectorStore, simple: SimpleVectorStore, condition: FilterCondition
) -> None:
    for first, second in zip(LEAVES, LEAVES[5:], strict=False):
        filters = MetadataFilters(filters=[first, second], condition=condition)
        assert approximately(await asked(store, filters=filters)) == await asked(simple, filters=filters)


async def test_nested_filters_decide_as_their_parts_do(store: XTraceVectorStore, simple: SimpleVectorStore) -> None:
    """The reference store refuses nesting, so that its answers to the parts are put together."""
    answers = [{one for one, _ in await asked(simple, filters=MetadataFilters(filters=[leaf]))} for leaf in LEAVES]
    everything = {node.node_id for node in nodes()}
    chance = random.Random(1)

    def grown(depth: int) -> tuple[MetadataFilter | MetadataFilters, set[str]]:
        if depth == 0:
            i = chance.randrange(len(LEAVES))
            return LEAVES[i], answers[i]
        parts = [grown(depth - 1) for _ in range(chance.randint(1, 3))]
        condition = chance.choice(list(FilterCondition))
        sets = [ids for _, ids in parts]
        union = set().union(*sets)
        decided = {
            FilterCondition.AND: everything.intersection(*sets),
            FilterCondition.OR: union,
            FilterCondition.NOT: everything - union,
        }
        return MetadataFilters(filters=[part for part, _ in parts], condition=condition), decided[condition]

    for _ in range(25):
        filters, expected = grown(chance.randint(2, 3))
        assert isinstance(filters, MetadataFilters)
        assert {node.node_id for node in await store.aget_nodes(filters=filters)} == expected


async def test_queries_find_what_the_reference_store_finds(store: XTraceVectorStore, simple: SimpleVectorStore) -> None:
    assert await asked(store, similarity_top_k=5) == approximately(await asked(simple, similarity_top_k=5))
    chosen = ["node 3", "node 8", "unknown"]
    assert await asked(store, node_ids=chosen) == approximately(await asked(simple, node_ids=chosen))
    of_documents = await asked(store, doc_ids=["document 1", "document 3"])
    assert {int(one.split()[1]) % 4 for one, _ in of_documents} == {1, 3}
    assert len(of_documents) == 12
    result = store.query(VectorStoreQuery(query_embedding=QUERY, similarity_top_k=1))
    assert result.nodes is not None
    (node,) = result.nodes
    assert node.get_content() == f"text {node.metadata['n']}"


async def test_maximal_marginal_relevance(store: XTraceVectorStore, simple: SimpleVectorStore) -> None:
    query = VectorStoreQuery(query_embedding=QUERY, similarity_top_k=2, mode=VectorStoreQueryMode.MMR)
    for threshold in (0.1, 0.5, 0.9):
        # Of more than two, LlamaIndex's own compares each with the one before it alone.
        expected = simple.query(query, mmr_threshold=threshold).ids
        options = {"mmr_threshold": threshold, "mmr_prefetch_k": len(VECTORS)}
        assert store.query(query, **options).ids == expected
        assert (await store.aquery(query, **options)).ids == expected
        query.mmr_threshold = threshold
        assert store.query(query, mmr_prefetch_factor=12).ids == expected
        query.mmr_threshold = None
    nearest = await asked(store, similarity_top_k=2)
    options = {"mmr_threshold": 0.0, "mmr_prefetch_k": 2}
    assert set(store.query(query, **options).ids or []) == {one for one, _ in nearest}


def test_what_a_query_cannot_be_is_refused(store: XTraceVectorStore) -> None:
    with pytest.raises(ValueError, match="mode of the query is hybrid, expected default or mmr"):
        store.query(VectorStoreQuery(query_embedding=QUERY, mode=VectorStoreQueryMode.HYBRID))
    with pytest.raises(ValueError, match="has no embedding"):
        store.query(VectorStoreQuery(query_str="text"))
    with pytest.raises(InvalidFilter):
        store.get_nodes(filters=MetadataFilters(filters=[leaf("n", FilterOperator.IN, 3)]))
    with pytest.raises(ValueError, match="got neither node_ids nor filters"):
        store.delete_nodes()
    with pytest.raises(ValueError, match="embedding not set"):
        store.add([TextNode(text="x")])


async def test_nodes_come_back_as_they_were_stored(new_collection: NewCollection) -> None:
    store = XTraceVectorStore(new_collection(DIM))
    relationships = {NodeRelationship.NEXT: RelatedNodeInfo(node_id="other", metadata={"a": 1})}
    stored = [
        TextNode(id_="1", text="text", metadata={"a": {"b": [1, None]}}, relationships=relationships),
        IndexNode(id_="2", text="index", index_id="i", start_char_idx=3),
        ImageNode(id_="3", text="image", image_path="cat.png", excluded_embed_metadata_keys=["a"]),
    ]
    for node, vector in zip(stored, VECTORS, strict=False):
        node.embedding = vector
    await store.async_add(stored)
    for node in stored:
        node.embedding = None
    assert store.get_nodes() == stored
    assert await store.aget_nodes(["3", "unknown", "1"]) == [stored[2], stored[0]]
    changed = TextNode(id_="1", text="changed", embedding=QUERY)
    store.add([changed])
    assert [node.get_content() for node in store.get_nodes(["1"])] == ["changed"]
    store.clear()
    assert await store.aget_nodes() == []


async def test_nodes_are_deleted_as_the_reference_store_deletes(
    store: XTraceVectorStore, simple: SimpleVectorStore
) -> None:
    async def left() -> set[str]:
        ids = {node.node_id for node in await store.aget_nodes()}
        assert ids == {one for one, _ in await asked(simple)}
        return ids

    few = MetadataFilters(filters=[leaf("n", FilterOperator.LT, 6)])
    for delete in (store.delete_nodes, simple.delete_nodes):
        delete(["node 1", "node 9"], few)
    assert await left() == {node.node_id for node in nodes()} - {"node 1"}
    await store.adelete_nodes(["node 9", "unknown"])
    simple.delete_nodes(["node 9", "unknown"])
    assert "node 9" not in await left()
    await store.adelete_nodes(filters=few)
    simple.delete_nodes(filters=few)
    assert len(await left()) == 17
    store.delete("document 2")
    await store.adelete("document 3")
    simple.delete("document 2")
    simple.delete("document 3")
    assert {int(one.split()[1]) % 4 for one in await left()} == {0, 1}
    await store.aclear()
    assert store.get_nodes() == []


class Letters(MockEmbedding):
    """A model by the letters of a text, so that texts that share them are near."""

    def __init__(self) -> None:
        super().__init__(embed_dim=DIM)

    def _vector(self, text: str) -> list[float]:
        return [float(text.count(chr(ord("a") + i)) + 0.1) for i in range(DIM)]

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._vector(text)

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._vector(query)

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return self._vector(text)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._vector(query)


async def test_an_index_lives_in_it(new_collection: NewCollection) -> None:
    store, model = XTraceVectorStore(new_collection(DIM)), Letters()
    documents = [Document(id_=text, text=text, metadata={"n": i}) for i, text in enumerate(("aaa", "bbb", "aab"))]
    index = VectorStoreIndex.from_documents(
        documents, StorageContext.from_defaults(vector_store=store), embed_model=model
    )
    retriever = index.as_retriever(similarity_top_k=2)
    assert [one.text for one in retriever.retrieve("aa")] == ["aaa", "aab"]
    few = MetadataFilters(filters=[leaf("n", FilterOperator.GTE, 1)])
    assert [one.text for one in await index.as_retriever(filters=few).aretrieve("aa")] == ["aab", "bbb"]
    again = VectorStoreIndex.from_vector_store(store, embed_model=model)
    again.delete_ref_doc("aaa")
    again.insert(Document(id_="ccc", text="ccc"))
    found = await again.as_retriever(similarity_top_k=5, vector_store_query_mode="mmr").aretrieve("a")
    assert {one.text for one in found} == {"aab", "bbb", "ccc"}


def test_it_is_a_vector_store_of_llama_index(store: XTraceVectorStore) -> None:
    """LlamaIndex's convention: the base class is among the class's ancestors, and no method of it is left."""
    assert "BasePydanticVectorStore" in [one.__name__ for one in XTraceVectorStore.__mro__]
    assert store.class_name() == "XTraceVectorStore"
    assert store.client.count() == len(VECTORS)
    assert set(store.to_dict()) == {"class_name", "stores_text", "is_embedding_query", "flat_metadata"}
    own = vars(XTraceVectorStore)
    for name in ("add", "delete", "query", "get_nodes", "delete_nodes", "clear"):
        assert name in own
        assert {"add": "async_add"}.get(name, f"a{name}") in own
