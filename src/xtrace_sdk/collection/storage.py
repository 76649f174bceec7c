"""How a collection is stored: its knowledge base, the names of its records, and its own chunk."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Any, NamedTuple

from xtrace_core.secrecy import Secretive
from xtrace_sdk.collection.contents import RECORD_FIELDS, ReadRecord, RecordCipher
from xtrace_sdk.collection.filterable import FilterableFields
from xtrace_sdk.collection.metadata import MetaData, as_text
from xtrace_sdk.collection.remembered_model import check_remembered, remembered
from xtrace_sdk.collection.service_filter import ServiceFilter
from xtrace_sdk.errors import ContextNotFound, InvalidArgument, OtherCollection, OtherRecord
from xtrace_sdk.service.integration import StoredChunk, XTraceIntegration
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.contexts.lineage import of_each
from xtrace_sdk.x_vec.contexts.names import ChunkNames
from xtrace_sdk.x_vec.data_loaders.storing import ChunkStore
from xtrace_sdk.x_vec.inference.model import EmbeddingModel
from xtrace_sdk.x_vec.stored.chunks import grouped
from xtrace_sdk.x_vec.stored.content import open_under_lineage
from xtrace_sdk.x_vec.stored.names import stored_names

_FILTERABLE, _EMBEDDING = "filterable", "embedding"


async def knowledge_base(xtrace: XTraceIntegration, name: str) -> str:
    """Returns the id of the knowledge base with this name, which is created if it does not exist.

    If several have the name, the first one created is used, so programs that create one at the same time get the same
    one. Looking up names needs an admin key. Without one the name is used as an id.
    """
    if not name:
        raise InvalidArgument("the name of the collection is empty, expected a name, or the id of a knowledge base")
    if not xtrace.admin_key:
        return name
    if found := await _named(xtrace, name):
        return found[0]
    created = await xtrace.create_kb(name)
    first, *_ = await _named(xtrace, name) or [created.id]
    if first != created.id:
        await xtrace.delete_kb(created.id)
    return first


async def _named(xtrace: XTraceIntegration, name: str) -> list[str]:
    """Returns the ids of the knowledge bases with this name or id, by creation time."""
    kbs = await xtrace.list_kbs()
    named = sorted((kb.created_at, kb.id) for kb in kbs if kb.name == name)
    return [kb_id for _, kb_id in named] or [kb.id for kb in kbs if kb.id == name]


Batch = list[tuple[int, ReadRecord]]
"""Records with the ids of their chunks."""


class Place(NamedTuple):
    """The place of a stored record."""

    context: ExecutionContext
    """The collection's context, or its predecessor."""
    chunk_id: int


class RecordStore(Secretive):
    """Finds, reads and writes the chunks of one namespace in one knowledge base."""

    __slots__ = (
        "_chunks",
        "_cipher",
        "_context",
        "_fields",
        "_kept_token",
        "_model",
        "_names",
        "_wanted",
        "_xtrace",
        "kb_id",
    )

    def __init__(
        self,
        xtrace: XTraceIntegration,
        context: ExecutionContext,
        kb_id: str,
        cipher: RecordCipher,
        kept_token: str,
        wanted: FilterableFields | None,
        model: EmbeddingModel | None,
    ) -> None:
        """`kept_token` is the tag of the collection's own chunk.

        `wanted` are the filterable fields of a new collection; None for all. `model` is the one that it is used with,
        if that is known.
        """
        self._xtrace = xtrace
        self._context = context
        self.kb_id = kb_id
        self._cipher = cipher
        self._kept_token = kept_token
        self._wanted = wanted
        # A context that remembers its model has compared them already.
        self._model = model if context.embedding_model is None else None
        self._fields: FilterableFields | None = None
        self._chunks = ChunkStore(context, xtrace)
        self._names: ChunkNames | None = None

    # What the collection keeps about itself

    async def fields(self) -> FilterableFields | None:
        """Returns the fields whose hashes the service has; None if nothing has been stored yet.

        Raises `OtherCollection` if the collection was created with different fields than wanted, `OtherModel` if with a
        different model.
        """
        if self._fields is None and (attributes := await self._kept()) is not None:
            kept = FilterableFields.from_object(attributes.get(_FILTERABLE))
            self.check_kept(attributes)
            if self._wanted is not None and self._wanted != kept:
                raise OtherCollection(
                    f"the collection was created with other filterable fields ({kept}) than these ({self._wanted}), "
                    "and its records are stored that way: omit filterable, or use another collection or namespace"
                )
            self._fields = kept
        return self._fields

    def check_kept(self, attributes: MetaData) -> None:
        """Raises `OtherModel` if the collection, which keeps this about itself, was created with a different model."""
        if self._model is not None:
            check_remembered(attributes.get(_EMBEDDING), self._model)

    async def check_model(self) -> None:
        """Raises `OtherModel` if the collection was created with a different model.

        Sends nothing if the context remembers the model, or if none is known.
        """
        if self._model is not None:
            await self.fields()

    async def fields_to_write(self) -> FilterableFields:
        """Like `fields`, but stores the choice if nothing has been stored yet. If several clients begin at once, one
        decides."""
        fields = await self.fields()
        if fields is None:
            wanted = FilterableFields.of(True) if self._wanted is None else self._wanted
            kept: dict[str, Any] = {_FILTERABLE: wanted.as_object()}
            if self._model is not None:
                kept[_EMBEDDING] = remembered(self._model)
            text = as_text(kept)
            index, db = await asyncio.to_thread(self._cipher.kept_by_collection, text)
            await self._chunks.insert(db, index, self.kb_id, on_conflict="skip")
            fields = await self.fields()
            if fields is None:
                raise OtherRecord("the service does not return the collection's own chunk: do not use this service")
        return fields

    async def _kept(self) -> MetaData | None:
        for one in self._context.lineage:
            with suppress(ContextNotFound):  # nothing was ever stored under it
                page = await self._xtrace.meta_search_paginated(
                    self.kb_id, one.id, {"tag3": self._kept_token}, RECORD_FIELDS, limit=1, sort_order="asc"
                )
                for chunk in page.results:
                    _, content = await asyncio.to_thread(open_under_lineage, self._context, self.kb_id, chunk)
                    return self._cipher.read_kept(chunk, content)
        return None

    # Finding and reading

    async def located(self, ids: Iterable[str]) -> dict[str, Place]:
        """Returns where the records with these ids are stored, without unknown ids."""
        names = await self._known_names()
        if names is None:
            return {}
        ids = list(dict.fromkeys(ids))
        by_name = await asyncio.to_thread(lambda: {names.name(self._cipher.base_name(one)): one for one in ids})
        found: dict[str, Place] = {}
        asked = await of_each(
            self._context, lambda one: self._xtrace.find_chunk_names(self.kb_id, one.id, list(by_name))
        )
        for context, chunk_ids in asked:
            listed = context.accepted.ids(self.kb_id, list(chunk_ids.values())).tolist()
            for (name, chunk_id), counts in zip(chunk_ids.items(), listed, strict=True):
                if counts:
                    found[by_name[name]] = Place(context, chunk_id)
        return found

    async def under_predecessor(self, ids: Sequence[str]) -> dict[str, int]:
        """Returns the chunks of records that a rotation has not moved yet; sends nothing if there is no rotation."""
        if self._context.predecessor is None:
            return {}
        places = await self.located(ids)
        return {one: place.chunk_id for one, place in places.items() if place.context is not self._context}

    async def fetched(
        self, ids: Sequence[str], more: Sequence[str] = ()
    ) -> dict[str, tuple[StoredChunk, ExecutionContext, ReadRecord]]:
        """Returns the records with these ids, without unknown ids: the chunk, its context, and its content.

        Raises `OtherRecord` if the service returns a different record for an id, `ContentTampered`, `UnknownContent`.
        """
        places = await self.located(ids)
        by_chunk = {place.chunk_id: record_id for record_id, place in places.items()}
        chunks = await self._xtrace.get_chunk_by_id(sorted(by_chunk), self.kb_id, (*RECORD_FIELDS, *more))

        def read() -> dict[str, tuple[StoredChunk, ExecutionContext, ReadRecord]]:
            found: dict[str, tuple[StoredChunk, ExecutionContext, ReadRecord]] = {}
            for chunk in chunks:
                context, record = self.read(chunk)
                if record.id != by_chunk[chunk["chunk_id"]]:
                    raise _other(chunk["chunk_id"])
                found[record.id] = chunk, context, record
            return found

        return await asyncio.to_thread(read)

    def read(self, chunk: Mapping[str, Any]) -> tuple[ExecutionContext, ReadRecord]:
        """Reads the record from a fetched chunk, and returns it with its context. Raises what `fetched` raises."""
        context, content = open_under_lineage(self._context, self.kb_id, chunk)
        return context, self._cipher.read(chunk, content)

    async def matching(self, service_filter: ServiceFilter, size: int) -> AsyncGenerator[Batch, None]:
        """Yields the records that match a service filter, in the order of their chunks, in batches."""
        seen: set[int] = set()
        for one in self._context.lineage:
            found = self._xtrace.iter_meta_search(
                self.kb_id, service_filter, one.id, projection=RECORD_FIELDS, page_size=size
            )
            # A rotation may have moved a chunk since the predecessor was queried.
            batches = grouped((chunk async for chunk in found if chunk["chunk_id"] not in seen), size)
            with suppress(ContextNotFound):  # nothing was ever stored under it
                async with aclosing(batches):
                    async for batch in batches:
                        yield await asyncio.to_thread(self._read_all, one, batch)
                        if one is not self._context:
                            seen.update(chunk["chunk_id"] for chunk in batch)

    def _read_all(self, context: ExecutionContext, chunks: Sequence[StoredChunk]) -> Batch:
        listed = context.accepted.ids(self.kb_id, [chunk["chunk_id"] for chunk in chunks]).tolist()
        return [
            (chunk["chunk_id"], self.read(chunk)[1]) for chunk, counts in zip(chunks, listed, strict=True) if counts
        ]

    async def count(self, service_filter: ServiceFilter) -> int:
        """Returns the number of records that match a service filter, according to the service."""
        total = 0
        for one in self._context.lineage:
            with suppress(ContextNotFound):
                page = await self._xtrace.meta_search_paginated(self.kb_id, one.id, service_filter, ["name"], limit=1)
                total += page.total
        return total

    # Writing

    @property
    def chunks(self) -> ChunkStore:
        """The store that names and inserts chunks."""
        return self._chunks

    async def delete(self, chunk_ids: Sequence[int]) -> int:
        """Deletes chunks by id, and returns their number."""
        return int(await self._xtrace.delete_chunks(chunk_ids, self.kb_id)) if chunk_ids else 0

    async def delete_matching(self, service_filter: ServiceFilter) -> int:
        """Deletes the records that match a service filter, and returns their number."""
        deleted = 0
        for one in self._context.lineage:
            with suppress(ContextNotFound):
                deleted += int(await self._xtrace.delete_chunks_by_meta(self.kb_id, one.id, service_filter))
        return deleted

    async def _known_names(self) -> ChunkNames | None:
        """Returns the names of records; None if none was assigned yet. Does not need write permission."""
        if self._names is None:
            try:
                self._names = await stored_names(self._context, self._xtrace, self.kb_id)
            except ContextNotFound:
                return None
        return self._names


def _other(chunk_id: int) -> OtherRecord:
    return OtherRecord(
        f"the service returned a record that was not requested, as chunk {chunk_id}: do not trust its answer"
    )
