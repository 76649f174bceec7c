"""Of texts, ids, metadata, filters and questions nothing reaches the server."""

from pathlib import Path

from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import FilterOperator, MetadataFilter, MetadataFilters, VectorStoreQuery

from llama_index.vector_stores.xtrace import XTraceVectorStore
from support.frameworks import watched_collection

MARKS = {
    "text": "Quetzalcoatl owes the bank eleven million",
    "id": "Schwippschwager-4711",
    "document": "Kaventsmann-0815",
    "field": "Zahlungsmoral",
    "value": "miserable beyond Popayan",
    "other value": "Schuldnerverzeichnis",
}


async def test_nothing_secret_reaches_the_server(tmp_path: Path) -> None:
    text, key, document, field, value, other = MARKS.values()
    with watched_collection(tmp_path, 8) as watched:
        store = XTraceVectorStore(watched.collection)
        source = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=document)}
        vector = [0.5, -1, 2, -3, 4, -5, 6, -7]
        store.add([TextNode(id_=key, text=text, metadata={field: value}, relationships=source, embedding=vector)])
        await store.async_add([TextNode(text=text, metadata={field: other}, embedding=vector)])
        filters = MetadataFilters(filters=[MetadataFilter(key=field, value=[value, other], operator=FilterOperator.IN)])
        query = VectorStoreQuery(query_embedding=vector, similarity_top_k=5, filters=filters)
        assert len(store.query(query).nodes or []) == 2
        query.doc_ids = [document]
        assert (await store.aquery(query)).ids == [key]
        assert len(await store.aget_nodes(filters=filters)) == 2
        store.delete_nodes([key], filters)
        await store.adelete(document)
        assert watched.found(MARKS) == []
