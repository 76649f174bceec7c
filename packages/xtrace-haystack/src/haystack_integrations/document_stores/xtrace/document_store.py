"""`XTraceDocumentStore`: Haystack's documents as the records of a collection."""

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
"""Documents that are changed at a time."""


class XTraceDocumentStore:
    """Documents in an end-to-end encrypted collection.

    Texts, embeddings, ids, metadata and filters are encrypted here. Every method has an asynchronous form, whose name
    ends in `_async`.
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
        """A store that connects, and opens or creates its keys, when it is first used.

        Args:
            collection: the name of a knowledge base, which is created if there is none; without an admin key its id.
            org_id: the organisation's id.
            api_key: for documents.
            admin_key: for finding a knowledge base by its name.
            passphrase: opens the keys.
            api_url: the address of the server, or `XTRACE_API_URL`.
            context_path: the file of the keys, encrypted under the passphrase; it is created if it is missing.
            embedding_dim: the number of dimensions of embeddings, of a context that is created.
            namespace: keeps documents apart from those of other namespaces.
            filterable: the fields that the server can filter by, from hashes: `True` for all, `False` for none, or
                names such as `"meta.topic"`. The first document that is stored fixes them.
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
        """A store over a collection that is open. It cannot be serialised, because its keys are not its own."""
        store = cls("")
        store._opened = sync.Collection.of(collection).asynchronous
        return store

    # Serialisation, without a secret

    def to_dict(self) -> dict[str, Any]:
        """The parameters; of secrets only the names of environment variables.

        Raises `ValueError` for a secret that is a token, and for a store over a collection.
        """
        if not self.collection:
            raise ValueError("a store over an open collection cannot be serialised: give its parameters instead")
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
        """The store with these parameters."""
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
        """Closes the connections; the next call opens new ones."""
        if self._xtrace is not None:
            self._xtrace.close()

    # Documents

    def count_documents(self) -> int:
        """How many documents there are."""
        return sync.run(self.count_documents_async())

    async def count_documents_async(self) -> int:
        """As `count_documents`."""
        return await (await self._collection()).count()

    def filter_documents(self, filters: Filters = None) -> list[Document]:
        """The documents that match, in the order in which they were first stored. Raises `FilterError`."""
        return sync.run(self.filter_documents_async(filters))

    async def filter_documents_async(self, filters: Filters = None) -> list[Document]:
        """As `filter_documents`."""
        return [document(one) for one in await self._matching(filters, include_vectors=True)]

    def write_documents(self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE) -> int:
        """Stores documents, and says how many were written. `DuplicatePolicy.NONE` is `FAIL`.

        Raises `DuplicateDocumentError` if one is there and the policy is `FAIL`, before anything is stored, and
        `ValueError` for anything but a list of documents.
        """
        return sync.run(self.write_documents_async(documents, policy))

    async def write_documents_async(
        self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE
    ) -> int:
        """As `write_documents`."""
        given: Any = documents
        if not isinstance(given, list) or not all(isinstance(one, Document) for one in given):
            raise ValueError("got something else than a list of documents")
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
        """Deletes the documents with these ids; unknown ids are passed over."""
        sync.run(self.delete_documents_async(document_ids))

    async def delete_documents_async(self, document_ids: list[str]) -> None:
        """As `delete_documents`."""
        await (await self._collection()).delete(document_ids)

    def delete_all_documents(self) -> None:
        """Deletes all documents."""
        sync.run(self.delete_all_documents_async())

    async def delete_all_documents_async(self) -> None:
        """As `delete_all_documents`."""
        await (await self._collection()).clear()

    def delete_by_filter(self, filters: dict[str, Any]) -> int:
        """Deletes the documents that match, and says how many there were. Raises `FilterError`."""
        return sync.run(self.delete_by_filter_async(filters))

    async def delete_by_filter_async(self, filters: dict[str, Any]) -> int:
        """As `delete_by_filter`."""
        return await (await self._collection()).delete(where=where(filters))

    def update_by_filter(self, filters: dict[str, Any], meta: dict[str, Any]) -> int:
        """Sets fields of `meta` in the documents that match, and says in how many. Raises `FilterError`."""
        return sync.run(self.update_by_filter_async(filters, meta))

    async def update_by_filter_async(self, filters: dict[str, Any], meta: dict[str, Any]) -> int:
        """As `update_by_filter`."""
        collection, slots = await self._collection(), asyncio.Semaphore(_AT_ONCE)

        async def update(one: Record) -> bool:
            async with slots:
                try:
                    await collection.update(one.id, metadata=one.metadata | {"meta": one.metadata["meta"] | meta})
                except RecordNotFound:  # deleted meanwhile
                    return False
                return True

        return sum(await asyncio.gather(*map(update, await self._matching(filters))))

    # By similarity, for the retriever

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
        """The documents that are most similar, most similar first; their scores are cosine similarities."""
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
        """How many documents match. Raises `FilterError`."""
        return sync.run(self.count_documents_by_filter_async(filters))

    async def count_documents_by_filter_async(self, filters: dict[str, Any]) -> int:
        """As `count_documents_by_filter`."""
        return await (await self._collection()).count(where(filters))

    def count_unique_metadata_by_filter(self, filters: dict[str, Any], metadata_fields: list[str]) -> dict[str, int]:
        """How many different values each field has in the documents that match. Raises `FilterError`."""
        return sync.run(self.count_unique_metadata_by_filter_async(filters, metadata_fields))

    async def count_unique_metadata_by_filter_async(
        self, filters: dict[str, Any], metadata_fields: list[str]
    ) -> dict[str, int]:
        """As `count_unique_metadata_by_filter`."""
        metas = [one.metadata["meta"] for one in await self._matching(filters)]
        return {_name(field): len(_different(metas, field)) for field in metadata_fields}

    def get_metadata_fields_info(self) -> dict[str, dict[str, str]]:
        """The fields of all documents' metadata, each with the type of its first value: `{"year": {"type": "int"}}`.

        A type is `keyword`, `boolean`, `int`, `float`, `list` or `object`.
        """
        return sync.run(self.get_metadata_fields_info_async())

    async def get_metadata_fields_info_async(self) -> dict[str, dict[str, str]]:
        """As `get_metadata_fields_info`."""
        found: dict[str, dict[str, str]] = {}
        for one in await self._matching(None):
            for name, value in one.metadata["meta"].items():
                if value is not None:
                    found.setdefault(name, {"type": _TYPES[type(value)]})
        return found

    def get_metadata_field_min_max(self, metadata_field: str) -> dict[str, Any]:
        """The smallest and the greatest value of a field, as `min` and `max`; None where no document has it."""
        return sync.run(self.get_metadata_field_min_max_async(metadata_field))

    async def get_metadata_field_min_max_async(self, metadata_field: str) -> dict[str, Any]:
        """As `get_metadata_field_min_max`."""
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
        """A page of the different values of a field, sorted, and how many there are in all. Raises `FilterError`.

        Args:
            metadata_field: the field, with or without `meta.` before it.
            search_term: leaves out values that do not contain this text, whatever its case.
            from_: the place of the first value of the page, from 0.
            size: at most how many values.
            filters: leaves out documents that do not match.
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
        """As `get_metadata_field_unique_values`."""
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
    """The different values of a field, those of lists each, sorted; 1, 1.0, "1" and True differ."""
    different: dict[tuple[str, str], Any] = {}
    for meta in metas:
        value: Any = meta
        for part in _name(field).split("."):
            value = value.get(part) if isinstance(value, dict) else None
        for one in value if isinstance(value, list) else [value]:
            if one is not None:
                different.setdefault((str(one) if isinstance(one, str) else json.dumps(one), type(one).__name__), one)
    return [different[key] for key in sorted(different)]
