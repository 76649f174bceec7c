"""Of texts, ids, metadata, filters and questions nothing reaches the server."""

from pathlib import Path

from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding

from langchain_xtrace import XTraceVectorStore
from support.frameworks import watched_collection

MARKS = {
    "text": "Quetzalcoatl owes the bank eleven million",
    "id": "Schwippschwager-4711",
    "field": "Zahlungsmoral",
    "value": "miserable beyond Popayan",
    "other value": "Schuldnerverzeichnis",
    "question": "Who is in debt, Nebuchadnezzar?",
}


async def test_nothing_secret_reaches_the_server(tmp_path: Path) -> None:
    text, key, field, value, other, question = MARKS.values()
    with watched_collection(tmp_path, 16) as watched:
        store = XTraceVectorStore(watched.collection, DeterministicFakeEmbedding(size=16))
        store.add_documents([Document(text, metadata={field: value}, id=key)])
        await store.aadd_texts([text], [{field: other}])
        where = {field: {"$in": [value, other]}, "$text": {"$contains": text[:20]}}
        assert len(store.similarity_search(question, filter=where)) == 2
        assert len(await store.amax_marginal_relevance_search(question, filter=where)) == 2
        assert store.similarity_search(question, filter={field: f"{other}?", "$id": key}) == []
        assert await store.aget_by_ids([key])
        assert store.delete([key])
        assert watched.found(MARKS) == []
