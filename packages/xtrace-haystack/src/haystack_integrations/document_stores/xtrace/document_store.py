"""`XTraceDocumentStore`: stores Haystack's documents as records of a collection."""

import asyncio
import json
import threading
from collections.abc import Sequence
from typing import Any, Final, Self

import numpy as np
from haystack import Document, default_from_dict, default_to_dict
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy
from haystack.utils import Secret

import xtrace_sdk
from haystack_integrations.document_stores.xtrace.documents import document, record
from haystack_integrations.document_stores.xtrace.filters import path, where
from xtrace_sdk import PassphraseKeyProvider, Record, sync
from xtrace_sdk.errors import RecordNotFound, RecordsExist

Filters = dict[str, Any] | None

_AT_ONCE: Final = 8
"""The number of documents updated concurrently."""


class XTraceDocumentStore:
    """Stores documents in an end-to-end encrypted collection.

    Texts, embeddings, ids, metadata and filters are encrypted on this machine. Every method has an asynchronous form,
    whose name ends in `_async`.
    """

    def __init__(
        self,
        collection: str = "haystack",
        *,
        org_id: Secret = Secret.from_env_var("XTRACE_ORG_ID"),  # noqa: B008 - Haystack's convention; it is constant
        api_key: Secret = Secret.from_env_var("XTRACE_API_KEY"),  # noqa: B008
        admin_key: Secret | None = Secret.from_env_var("XTRACE_ADMIN_KEY", strict=False),  # noqa: B008
        passphrase: Secret = Secret.from_env_var("XTRACE_PASSPHRASE"),  # noqa: B008
        api_url: str | None = None,
        context_path: str = "xtrace-context.json",
        embedding_dim: int = 768,
        namespace: str = "",
        filterable: bool | list[str] | dict[str, bool] | None = None,
    ) -> None:
        """Creates a store. On first use it connects, and opens or creates its keys.

        Args:
            collection: the name of a knowledge base, created if it does not exist; without an admin key, its id.
            org_id: the organisation's id.
            api_key: reads and writes documents.
            admin_key: finds a knowledge base by its name.
            passphrase: decrypts the keys.
            api_url: the server's address; by default `XTRACE_API_URL`.
            context_path: the file with the keys, encrypted with the passphrase; it is created if it does not exist.
            embedding_dim: the number of dimensions of the embeddings, if the context is created.
            namespace: separates these documents from those of other namespaces.
            filterable: the fields that the server can filter by their hashes: `True` for all, `False` for none, or
                names such as `"meta.topic"`. Fixed when the first document is stored.
        """
        self.collection = collection
        self.org_id = org_id
        self.api_key = api_key
        self.admin_key = admin_key
        self.passphrase = passphrase
        self.api_url = api_url
        self.context_path = context_path
        self.embedding_dim = embedding_dim
        self.namespace = namespace
        self.filterable = filterable
        self._opening = threading.Lock()
        self._xtrace: sync.XTraceIntegration | None = None
        self._opened: xtrace_sdk.Collection | None = None

    @classmethod
    def over(cls, collection: xtrace_sdk.Collection | sync.Collection) -> Self:
        """Creates a store on top of an open collection. It cannot be serialised: your program holds the keys."""
        store = cls("")
        store._opened = sync.Collection.of(collection).asynchronous
        return store

    # Serialisation, without secrets

    def to_dict(self) -> dict[str, Any]:
        """Returns the parameters. Of secrets, only the names of their environment variables are included.

        Raises `ValueError` if a secret was made from a token, or if the store was created with `over`.
        """
        if not self.collection:
            raise ValueError("a store over an open collection cannot be serialised: create it from parameters instead")
        return default_to_dict(
            self,
            collection=self.collection,
            org_id=self.org_id.to_dict(),
            api_key=self.api_key.to_dict(),
            admin_key=None if self.admin_key is None else self.admin_key.to_dict(),
            passphrase=self.passphrase.to_dict(),
            api_url=self.api_url,
            context_path=self.context_path,
            embedding_dim=self.embedding_dim,
            namespace=self.namespace,
            filterable=self.filterable,
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "XTraceDocumentStore":
        """Creates the store with these parameters."""
        return default_from_dict(cls, data)

    # Connecting

    async def _collection(self) -> xtrace_sdk.Collection:
        if self._opened is None:
            return await asyncio.to_thread(self._open)
        return self._opened

    def _open(self) -> xtrace_sdk.Collection:
        with self._opening:
            opened = self._opened or self._connected()
            self._opened = opened
            return opened

    def _connected(self) -> xtrace_sdk.Collection:
        context = sync.ExecutionContext.create_or_load(
            PassphraseKeyProvider(_resolved(self.passphrase)),
            "paillier_lookup",
            self.embedding_dim,
            path=self.context_path,
        )
        self._xtrace = sync.XTraceIntegration(
            _resolved(self.org_id), _resolved(self.api_key), _resolved(self.admin_key), self.api_url
        )
        return sync.Collection.open(
            self._xtrace,
            context,
            self.collection,
            namespace=self.namespace,
            filterable=self.filterable,
            vector_copy="float32",
        ).asynchronous

    def close(self) -> None:
        """Closes the connections. The next call opens new ones."""
        if self._xtrace is not None:
            self._xtrace.close()

    # Documents

    def count_documents(self) -> int:
        """Returns the number of documents."""
        return sync.run(self.count_documents_async())

    async def count_documents_async(self) -> int:
        """Asynchronous form of `count_documents`."""
        return await (await self._collection()).count()

    def filter_documents(self, filters: Filters = None) -> list[Document]:
        """Returns the documents that match, in the order in which they were first stored. Raises `FilterError`."""
        return sync.run(self.filter_documents_async(filters))

    async def filter_documents_async(self, filters: Filters = None) -> list[Document]:
        """Asynchronous form of `filter_documents`."""
        return [document(one) for one in await self._matching(filters, include_vectors=True)]

    def write_documents(self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE) -> int:
        """Stores documents and returns how many were written. `DuplicatePolicy.NONE` means `FAIL`.

        Raises `DuplicateDocumentError` if the policy is `FAIL` and a document exists; then nothing is stored. Raises
        `ValueError` for anything but a list of documents.
        """
        return sync.run(self.write_documents_async(documents, policy))

    async def write_documents_async(
        self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE
    ) -> int:
        """Asynchronous form of `write_documents`."""
        given: Any = documents
        if not isinstance(given, list) or not all(isinstance(one, Document) for one in given):
            raise ValueError("expected a list of documents")
        collection, records = await self._collection(), [record(one) for one in documents]
        if policy == DuplicatePolicy.SKIP:
            return (await collection.upsert(records, on_conflict="skip")).count
        if policy == DuplicatePolicy.OVERWRITE:
            await collection.upsert(records)
            return len(documents)
        try:
            return (await collection.upsert(records, on_conflict="fail")).count
        except RecordsExist as error:
            raise DuplicateDocumentError(str(error)) from error

    def delete_documents(self, document_ids: list[str]) -> None:
        """Deletes the documents with these ids. Unknown ids are ignored."""
        sync.run(self.delete_documents_async(document_ids))

    async def delete_documents_async(self, document_ids: list[str]) -> None:
        """Asynchronous form of `delete_documents`."""
        await (await self._collection()).delete(document_ids)

    def delete_all_documents(self) -> None:
        """Deletes all documents."""
        sync.run(self.delete_all_documents_async())

    async def delete_all_documents_async(self) -> None:
        """Asynchronous form of `delete_all_documents`."""
        await (await self._collection()).clear()

    def delete_by_filter(self, filters: dict[str, Any]) -> int:
        """Deletes the documents that match and returns how many. Raises `FilterError`."""
        return sync.run(self.delete_by_filter_async(filters))

    async def delete_by_filter_async(self, filters: dict[str, Any]) -> int:
        """Asynchronous form of `delete_by_filter`."""
        return await (await self._collection()).delete(where=where(filters))

    def update_by_filter(self, filters: dict[str, Any], meta: dict[str, Any]) -> int:
        """Sets fields of `meta` in the documents that match and returns how many. Raises `FilterError`."""
        return sync.run(self.update_by_filter_async(filters, meta))

    async def update_by_filter_async(self, filters: dict[str, Any], meta: dict[str, Any]) -> int:
        """Asynchronous form of `update_by_filter`."""
        collection, slots = await self._collection(), asyncio.Semaphore(_AT_ONCE)

        async def update(one: Record) -> bool:
            async with slots:
                try:
                    await collection.update(one.id, metadata=one.metadata | {"meta": one.metadata["meta"] | meta})
                except RecordNotFound:  # deleted in the meantime
                    return False
                return True

        return sum(await asyncio.gather(*map(update, await self._matching(filters))))

    # Similarity search, for the retriever

    def _embedding_retrieval(
        self,
        query_embedding: list[float],
        *,
        filters: Filters = None,
        top_k: int = 10,
        return_embedding: bool = False,
        min_similarity: float | None = None,
    ) -> list[Document]:
        return sync.run(
            self._embedding_retrieval_async(
                query_embedding,
                filters=filters,
                top_k=top_k,
                return_embedding=return_embedding,
                min_similarity=min_similarity,
            )
        )

    async def _embedding_retrieval_async(
        self,
        query_embedding: list[float],
        *,
        filters: Filters = None,
        top_k: int = 10,
        return_embedding: bool = False,
        min_similarity: float | None = None,
    ) -> list[Document]:
        """Returns the most similar documents, the most similar first. Scores are cosine similarities."""
        hits = await (await self._collection()).search(
            np.asarray(query_embedding, dtype=np.float32),
            top_k,
            where=where(filters),
            min_similarity=min_similarity,
            include_vectors=return_embedding,
        )
        return [document(hit.record, hit.similarity) for hit in hits]

    # About metadata

    def count_documents_by_filter(self, filters: dict[str, Any]) -> int:
        """Returns how many documents match. Raises `FilterError`."""
        return sync.run(self.count_documents_by_filter_async(filters))

    async def count_documents_by_filter_async(self, filters: dict[str, Any]) -> int:
        """Asynchronous form of `count_documents_by_filter`."""
        return await (await self._collection()).count(where(filters))

    def count_unique_metadata_by_filter(self, filters: dict[str, Any], metadata_fields: list[str]) -> dict[str, int]:
        """Returns the number of distinct values of each field in the documents that match. Raises `FilterError`."""
        return sync.run(self.count_unique_metadata_by_filter_async(filters, metadata_fields))

    async def count_unique_metadata_by_filter_async(
        self, filters: dict[str, Any], metadata_fields: list[str]
    ) -> dict[str, int]:
        """Asynchronous form of `count_unique_metadata_by_filter`."""
        metas = [one.metadata["meta"] for one in await self._matching(filters)]
        return {_name(field): len(_different(metas, field)) for field in metadata_fields}

    def get_metadata_fields_info(self) -> dict[str, dict[str, str]]:
        """Returns all metadata fields, each with the type of its first value: `{"year": {"type": "int"}}`.

        A type is `keyword`, `boolean`, `int`, `float`, `list` or `object`.
        """
        return sync.run(self.get_metadata_fields_info_async())

    async def get_metadata_fields_info_async(self) -> dict[str, dict[str, str]]:
        """Asynchronous form of `get_metadata_fields_info`."""
        found: dict[str, dict[str, str]] = {}
        for one in await self._matching(None):
            for name, value in one.metadata["meta"].items():
                if value is not None:
                    found.setdefault(name, {"type": _TYPES[type(value)]})
        return found

    def get_metadata_field_min_max(self, metadata_field: str) -> dict[str, Any]:
        """Returns the smallest and largest value of a field, as `min` and `max`; None if no document has it."""
        return sync.run(self.get_metadata_field_min_max_async(metadata_field))

    async def get_metadata_field_min_max_async(self, metadata_field: str) -> dict[str, Any]:
        """Asynchronous form of `get_metadata_field_min_max`."""
        values = await (await self._collection()).values(path(metadata_field))
        return {"min": values[0] if values else None, "max": values[-1] if values else None}

    def get_metadata_field_unique_values(
        self,
        metadata_field: str,
        search_term: str | None = None,
        from_: int = 0,
        size: int = 10,
        filters: Filters = None,
    ) -> tuple[list[Any], int]:
        """Returns one page of a field's distinct values, sorted, and their total number. Raises `FilterError`.

        Args:
            metadata_field: the field, with or without the prefix `meta.`.
            search_term: excludes values that do not contain this text, ignoring case.
            from_: the index of the page's first value, from 0.
            size: the maximum number of values.
            filters: exclude documents that do not match.
        """
        return sync.run(self.get_metadata_field_unique_values_async(metadata_field, search_term, from_, size, filters))

    async def get_metadata_field_unique_values_async(
        self,
        metadata_field: str,
        search_term: str | None = None,
        from_: int = 0,
        size: int = 10,
        filters: Filters = None,
    ) -> tuple[list[Any], int]:
        """Asynchronous form of `get_metadata_field_unique_values`."""
        values = _different([one.metadata["meta"] for one in await self._matching(filters)], metadata_field)
        if search_term:
            values = [one for one in values if search_term.casefold() in str(one).casefold()]
        return values[from_ : from_ + size], len(values)

    async def _matching(self, filters: Filters, *, include_vectors: bool = False) -> list[Record]:
        found = (await self._collection()).iter(where(filters), include_vectors=include_vectors)
        return [one async for one in found]


_TYPES: Final = {str: "keyword", bool: "boolean", int: "int", float: "float", list: "list", dict: "object"}


def _resolved(secret: Secret | None) -> str:
    return "" if secret is None else secret.resolve_value() or ""


def _name(field: str) -> str:
    return field.removeprefix("meta.")


def _different(metas: Sequence[dict[str, Any]], field: str) -> list[Any]:
    """Returns a field's distinct values, sorted; each element of a list counts. 1, 1.0, "1" and True are distinct."""
    different: dict[tuple[str, str], Any] = {}
    for meta in metas:
        value: Any = meta
        for part in _name(field).split("."):
            value = value.get(part) if isinstance(value, dict) else None
        for one in value if isinstance(value, list) else [value]:
            if one is not None:
                different.setdefault((str(one) if isinstance(one, str) else json.dumps(one), type(one).__name__), one)
    return [different[key] for key in sorted(different)]
