"""A collection's place on the service: its knowledge base, the names of its records, and what it keeps about itself."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Any, NamedTuple

from xtrace_core.secrecy import Secretive
from xtrace_sdk.collection.contents import RECORD_FIELDS, ReadRecord, RecordCipher
from xtrace_sdk.collection.filterable import FilterableFields
from xtrace_sdk.collection.metadata import as_text
from xtrace_sdk.collection.service_filter import ServiceFilter
from xtrace_sdk.errors import ContextNotFound, InvalidArgument, OtherCollection, OtherRecord
from xtrace_sdk.service.integration import StoredChunk, XTraceIntegration
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.contexts.lineage import of_each
from xtrace_sdk.x_vec.contexts.names import ChunkNames
from xtrace_sdk.x_vec.data_loaders.storing import ChunkStore
from xtrace_sdk.x_vec.stored.chunks import grouped
from xtrace_sdk.x_vec.stored.content import open_under_lineage
from xtrace_sdk.x_vec.stored.names import stored_names

_FILTERABLE = "filterable"


async def knowledge_base(xtrace: XTraceIntegration, name: str) -> str:
    """The id of the knowledge base of this name, which is created if there is none.

    Of several, the one that was created first; so of programs that create one at the same time, all get the same.
    Only an admin key can look names up. Without one the name is taken for an id.
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
    """The ids of the knowledge bases of this name, or this id, by the time of their creation."""
    kbs = await xtrace.list_kbs()
    named = sorted((kb.created_at, kb.id) for kb in kbs if kb.name == name)
    return [kb_id for _, kb_id in named] or [kb.id for kb in kbs if kb.id == name]


Batch = list[tuple[int, ReadRecord]]
"""Records with the ids of their chunks."""


class Place(NamedTuple):
    """Where a record is stored."""

    context: ExecutionContext
    """The collection's own, or its predecessor."""
    chunk_id: int


class RecordStore(Secretive):
    """Finds, reads and writes the chunks of one namespace in one knowledge base."""

    __slots__ = ("_chunks", "_cipher", "_context", "_fields", "_kept_token", "_names", "_wanted", "_xtrace", "kb_id")

    def __init__(
        self,
        xtrace: XTraceIntegration,
        context: ExecutionContext,
        kb_id: str,
        cipher: RecordCipher,
        kept_token: str,
        wanted: FilterableFields | None,
    ) -> None:
        """`kept_token` is what the chunk has that the collection keeps about itself.

        `wanted` are the filterable fields that a new collection gets; None for all of them.
        """
        self._xtrace = xtrace
        self._context = context
        self.kb_id = kb_id
        self._cipher = cipher
        self._kept_token = kept_token
        self._wanted = wanted
        self._fields: FilterableFields | None = None
        self._chunks = ChunkStore(context, xtrace)
        self._names: ChunkNames | None = None

    # What the collection keeps about itself

    async def fields(self) -> FilterableFields | None:
        """The fields that the service has hashes of; None as long as nothing was stored, so that nothing is known.

        Raises `OtherCollection` if the collection was created with other ones than those that are wanted.
        """
        if self._fields is None and (kept := await self._kept()) is not None:
            if self._wanted is not None and self._wanted != kept:
                raise OtherCollection(
                    f"the collection was created with other filterable fields ({kept}) than these ({self._wanted}), "
                    "and its records are stored so: leave filterable out to take them, or use another collection or "
                    "namespace"
                )
            self._fields = kept
        return self._fields

    async def fields_to_write(self) -> FilterableFields:
        """The same; kept from now on if nothing was stored yet. Of clients that begin at once, one decides."""
        fields = await self.fields()
        if fields is None:
            wanted = FilterableFields.of(True) if self._wanted is None else self._wanted
            text = as_text({_FILTERABLE: wanted.as_object()})
            index, db = await asyncio.to_thread(self._cipher.kept_by_collection, text)
            await self._chunks.insert(db, index, self.kb_id, on_conflict="skip")
            fields = await self.fields()
            if fields is None:
                raise OtherRecord(
                    "the service does not give back what the collection keeps about itself: do not use it"
                )
        return fields

    async def _kept(self) -> FilterableFields | None:
        for one in self._context.lineage:
            with suppress(ContextNotFound):  # nothing was ever stored under it
                page = await self._xtrace.meta_search_paginated(
                    self.kb_id, one.id, {"tag3": self._kept_token}, RECORD_FIELDS, limit=1, sort_order="asc"
                )
                for chunk in page.results:
                    _, content = await asyncio.to_thread(open_under_lineage, self._context, self.kb_id, chunk)
                    return FilterableFields.from_object(self._cipher.read_kept(chunk, content).get(_FILTERABLE))
        return None

    # Finding and reading

    async def located(self, ids: Iterable[str]) -> dict[str, Place]:
        """Where the records with these ids are, of those that are there."""
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
        """The chunks of those records that a rotation has not moved yet; asks nothing where there is none."""
        if self._context.predecessor is None:
            return {}
        places = await self.located(ids)
        return {one: place.chunk_id for one, place in places.items() if place.context is not self._context}

    async def fetched(
        self, ids: Sequence[str], more: Sequence[str] = ()
    ) -> dict[str, tuple[StoredChunk, ExecutionContext, ReadRecord]]:
        """The records with these ids, of those that are there: chunk, the context that it is under, and what it holds.

        Raises `OtherRecord` if the service gives another record for an id, `ContentTampered`, `UnknownContent`.
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
        """The record of a fetched chunk, and the context that it is under. Raises as `fetched` does."""
        context, content = open_under_lineage(self._context, self.kb_id, chunk)
        return context, self._cipher.read(chunk, content)

    async def matching(self, service_filter: ServiceFilter, size: int) -> AsyncGenerator[Batch, None]:
        """The records that pass a filter of the service, in the order of their chunks, in batches."""
        seen: set[int] = set()
        for one in self._context.lineage:
            found = self._xtrace.iter_meta_search(
                self.kb_id, service_filter, one.id, projection=RECORD_FIELDS, page_size=size
            )
            # A rotation may have moved a chunk since the predecessor was asked.
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
        """How many records pass a filter of the service, as it says."""
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
        """Deletes chunks by their ids, and says how many there were."""
        return int(await self._xtrace.delete_chunks(chunk_ids, self.kb_id)) if chunk_ids else 0

    async def delete_matching(self, service_filter: ServiceFilter) -> int:
        """Deletes the records that pass a filter of the service, and says how many there were."""
        deleted = 0
        for one in self._context.lineage:
            with suppress(ContextNotFound):
                deleted += int(await self._xtrace.delete_chunks_by_meta(self.kb_id, one.id, service_filter))
        return deleted

    async def _known_names(self) -> ChunkNames | None:
        """The names of records; None if none was given yet. Needs no right to write."""
        if self._names is None:
            try:
                self._names = await stored_names(self._context, self._xtrace, self.kb_id)
            except ContextNotFound:
                return None
        return self._names


def _other(chunk_id: int) -> OtherRecord:
    return OtherRecord(
        f"the service gave another record than the one that was asked for, as chunk {chunk_id}: do not trust its answer"
    )
