"""Writing records: embedded, encrypted and stored in batches that overlap, each wholly or not at all."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import EllipsisType
from typing import Any, Final

import numpy as np

from xtrace_core.secrecy import Secretive
from xtrace_core.wire import OnConflict, Outcome
from xtrace_sdk.arguments import shown
from xtrace_sdk.collection.contents import EncryptedRecords, ReadRecord, RecordCipher
from xtrace_sdk.collection.filterable import FilterableFields
from xtrace_sdk.collection.metadata import as_text, checked
from xtrace_sdk.collection.record import CheckedRecord, Record, Written, checked_record, checked_text
from xtrace_sdk.collection.storage import RecordStore
from xtrace_sdk.errors import (
    ChunksChanged,
    ChunksNotFound,
    ContentTampered,
    InvalidArgument,
    NamesTaken,
    PartlyStored,
    RecordNotFound,
    RecordsExist,
)
from xtrace_sdk.service.integration import StoredChunk, XTraceIntegration
from xtrace_sdk.x_vec.chunks.vectors import Embedder, FloatEmbedder, resolve_all
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.data_loaders.chunks import PlainChunk
from xtrace_sdk.x_vec.data_loaders.embedding import BatchEmbedder
from xtrace_sdk.x_vec.data_loaders.loading import BATCHES_AHEAD
from xtrace_sdk.x_vec.data_loaders.pipeline import Pipeline
from xtrace_sdk.x_vec.schemes.ciphertexts import EncryptedIndexBatch

BATCH_SIZE: Final = 500
"""Records that are stored in one transaction; fewer where they are large."""
ATTEMPTS: Final = 20
"""How often a record that others keep changing is read again."""

Change = Any
"""What a field becomes; `...` if it stays."""


class OwnWrites:
    """Which chunks a collection itself has written lately, so that its searches tell that from an exchange."""

    def __init__(self) -> None:
        self._under_way = 0
        self._watching: list[set[int]] = []

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A write is under way while the block runs."""
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1

    def note(self, chunk_ids: Iterable[int]) -> None:
        """These chunks were written."""
        ids = list(chunk_ids)
        for seen in self._watching:
            seen.update(ids)

    @contextmanager
    def watching(self) -> Iterator[set[int]]:
        """The ids of the chunks that are written while the block runs."""
        seen: set[int] = set()
        self._watching.append(seen)
        try:
            yield seen
        finally:
            # By identity: two searches may have seen the same.
            self._watching = [one for one in self._watching if one is not seen]

    @property
    def is_writing(self) -> bool:
        """Whether a write is under way, of which it is not known yet what it changed."""
        return self._under_way > 0


class RecordWriter(Secretive):
    """Writes the records of one namespace."""

    __slots__ = ("_cipher", "_context", "_embedding", "_store", "_with_copies", "_xtrace", "own_writes")

    def __init__(
        self,
        xtrace: XTraceIntegration,
        context: ExecutionContext,
        store: RecordStore,
        cipher: RecordCipher,
        embedding: Embedder | None,
        with_copies: bool,
    ) -> None:
        self._xtrace = xtrace
        self._context = context
        self._store = store
        self._cipher = cipher
        self._embedding = embedding
        self._with_copies = with_copies
        self.own_writes = OwnWrites()

    async def upsert(self, records: Iterable[Record | Mapping[str, Any]], on_conflict: OnConflict) -> Written:
        """What `Collection.upsert` says."""
        if isinstance(records, Record | Mapping | str) or not isinstance(records, Iterable):
            raise InvalidArgument(f"records is {shown(records)}, expected a list of records, or of objects like them")
        given = await asyncio.to_thread(lambda: [checked_record(i, one) for i, one in enumerate(records)])
        wanted = _one_of_each(given, on_conflict)
        self._check_embeddable(wanted)
        fields = await self._store.fields_to_write()
        await asyncio.to_thread(self._cipher.check_sizes, wanted, fields)
        if on_conflict == "fail" and (there := await self._store.located([one.id for one in wanted])):
            raise RecordsExist([one.position for one in wanted if one.id in there], len(given))
        outcomes: dict[str, tuple[int, Outcome]] = {}
        upserting = _Upserting(self, fields, on_conflict, outcomes)
        try:
            with self.own_writes.writing():
                await upserting.run(wanted)
        except Exception as error:
            cause = (error.__cause__ if isinstance(error, PartlyStored) else None) or error
            if isinstance(cause, NamesTaken):  # stored by others since they were looked up
                there = await self._store.located([one.id for one in wanted])
                taken = [one.position for one in wanted if one.id in there and one.id not in outcomes]
                cause = RecordsExist(taken, len(given))
            if not outcomes:
                raise cause from None
            ids = [outcomes[one.id][0] if one.id in outcomes else None for one in given]
            raise PartlyStored(ids, cause) from cause
        return _written(wanted, {record_id: outcome for record_id, (_, outcome) in outcomes.items()})

    async def update(self, record_id: str, text: Change, metadata: Change, vector: Change) -> Record:
        """What `Collection.update` says."""
        more = () if self._context.predecessor is None else ("index",)
        for attempt in range(1, ATTEMPTS + 1):
            found = await self._store.fetched([record_id], more)
            if record_id not in found:
                raise RecordNotFound("the collection does not have a record with this id: upsert stores a new one")
            fields = await self._store.fields_to_write()
            chunk, context, stored = found[record_id]
            changed = _changed(stored, text, metadata, vector)
            try:
                with self.own_writes.writing():
                    await self._write_over(chunk, context, stored, changed, fields)
                    self.own_writes.note([chunk["chunk_id"]])
            except (ChunksChanged, ChunksNotFound):
                if attempt == ATTEMPTS:
                    raise
            else:
                return Record(record_id, changed.text, changed.metadata, created_at=stored.created_at)
        raise AssertionError("no attempt was made")

    async def vectors(self, records: Sequence[CheckedRecord]) -> list[Any]:
        """The vector of each record: its own, that of its text, or None. Raises what the model raises."""
        vectors = list(await resolve_all([one.vector for one in records]))
        to_embed = [i for i, one in enumerate(records) if needs_embedding(one)]
        if to_embed and self._embedding is not None:
            as_floats = self._with_copies and isinstance(self._embedding, FloatEmbedder)
            model = BatchEmbedder(self._embedding, [], as_floats=as_floats, is_strict=True)
            chunks = [PlainChunk(records[i].position, records[i].text or "", {}, None, "") for i in to_embed]
            _, embedded = await model.embed(chunks)
            for i, one in zip(to_embed, embedded, strict=True):
                vectors[i] = one
        return vectors

    def _check_embeddable(self, records: Iterable[CheckedRecord]) -> None:
        if self._embedding is None and any(map(needs_embedding, records)):
            raise InvalidArgument(
                "a record has a text but no vector, and no model is known that could embed it: open the collection "
                "with embedding=…, give the vector, or an empty list as vector for a record without one"
            )

    async def _write_over(
        self,
        chunk: StoredChunk,
        context: ExecutionContext,
        stored: ReadRecord,
        changed: CheckedRecord,
        fields: FilterableFields,
    ) -> None:
        """Writes the changed record in place of the stored one, unless others have written it since."""
        if changed.vector is ... and context is self._context:
            return await self._patch(chunk, stored, changed, fields)
        if changed.vector is ...:
            # Under the predecessor: it moves, with the same vector.
            index, db = await asyncio.to_thread(self._moved, chunk, context, stored, changed, fields)
        else:
            self._check_embeddable([changed])
            vectors = await self.vectors([changed])
            index, db = await asyncio.to_thread(self._cipher.encrypt, [changed], vectors, fields)
        db[0]["if_updated_at"] = chunk["updated_at"]
        return await self._store.chunks.replace([chunk["chunk_id"]], db, index, self._store.kb_id)

    async def _patch(
        self, chunk: StoredChunk, stored: ReadRecord, changed: CheckedRecord, fields: FilterableFields
    ) -> None:
        """Writes everything but the vector."""

        def patch() -> dict[str, Any]:
            content, meta_data = self._content(stored, changed, fields)
            return {
                "chunk_id": chunk["chunk_id"],
                "chunk_content": self._context.aes.encrypt(content, chunk.get("nonce") or b""),
                "meta_data": {"tag2": None, "facets": None} | meta_data,
                "if_updated_at": chunk["updated_at"],
            }

        patches = [await asyncio.to_thread(patch)]
        await self._xtrace.patch_chunks(self._store.kb_id, self._context.id, patches)

    def _moved(
        self,
        chunk: StoredChunk,
        context: ExecutionContext,
        stored: ReadRecord,
        changed: CheckedRecord,
        fields: FilterableFields,
    ) -> tuple[EncryptedIndexBatch, EncryptedRecords]:
        bits, valid = context.homomorphic.decrypt_vec_batch([chunk["index"]], [chunk.get("nonce")])
        if not valid.all() or not context.accepted.chunks(self._store.kb_id, [chunk]).all():
            raise ContentTampered(f"the vector of chunk {chunk['chunk_id']} is not valid, so it was not changed")
        index = self._context.homomorphic.encrypt_vec_batch(np.asarray(bits))
        content, meta_data = self._content(stored, changed, fields)
        sealed = self._context.aes.encrypt(content, index[0].nonce)
        return index, [
            {"chunk_content": sealed, "meta_data": meta_data, "base_name": self._cipher.base_name(changed.id)}
        ]

    def _content(
        self, stored: ReadRecord, changed: CheckedRecord, fields: FilterableFields
    ) -> tuple[bytes, dict[str, Any]]:
        """The content of the changed record beside the vector that it has."""
        return self._cipher.content(
            changed,
            stored.content.vector_copy,
            fields,
            base_name=self._cipher.base_name(changed.id),
            has_vector=stored.has_vector,
        )


class _Upserting:
    """One call of `upsert`: its batches, each in another stage."""

    def __init__(
        self,
        writer: RecordWriter,
        fields: FilterableFields,
        on_conflict: OnConflict,
        outcomes: dict[str, tuple[int, Outcome]],
    ) -> None:
        """`outcomes` gets the chunk and the outcome of each record when it is stored."""
        self._writer = writer
        self._fields = fields
        self._on_conflict = on_conflict
        self._outcomes = outcomes
        self._pipeline = Pipeline(BATCHES_AHEAD)
        self._embedding, self._encrypting, self._storing = (asyncio.Lock() for _ in range(3))

    async def run(self, records: Sequence[CheckedRecord]) -> None:
        async def batches() -> Any:
            for start in range(0, len(records), BATCH_SIZE):
                yield records[start : start + BATCH_SIZE]

        await self._pipeline.run(batches(), self._carry)

    async def _carry(self, number: int, batch: Sequence[CheckedRecord]) -> None:
        stage, writer = self._pipeline.stage, self._writer
        async with stage(self._embedding, number):
            vectors = await writer.vectors(batch)
        async with stage(self._encrypting, number):
            index, db = await asyncio.to_thread(writer._cipher.encrypt, batch, vectors, self._fields)
        async with stage(self._storing, number):
            await self._store(batch, index, db)

    async def _store(self, batch: Sequence[CheckedRecord], index: EncryptedIndexBatch, db: EncryptedRecords) -> None:
        left = list(range(len(batch)))
        if self._writer._context.predecessor is not None:
            left = await self._store_over_predecessors(batch, index, db)
        stored = 0

        def note(done: Any) -> None:
            nonlocal stored
            for chunk_id, outcome in zip(done, done.outcomes, strict=True):
                self._outcomes[batch[left[stored]].id] = chunk_id, outcome
                stored += 1
            self._writer.own_writes.note(done)

        await self._writer._store.chunks.insert(
            [db[i] for i in left],
            [index[i] for i in left],
            self._writer._store.kb_id,
            note,
            batch_size=max(len(left), 1),
            on_conflict=self._on_conflict,
        )

    async def _store_over_predecessors(
        self, batch: Sequence[CheckedRecord], index: EncryptedIndexBatch, db: EncryptedRecords
    ) -> list[int]:
        """Deals with what is still under the context's predecessor; gives the positions of all others."""
        store = self._writer._store
        places = await store.located([one.id for one in batch])
        before = {
            i: places[one.id].chunk_id
            for i, one in enumerate(batch)
            if one.id in places and places[one.id].context is not self._writer._context
        }
        outcome: Outcome = "known"
        if before and self._on_conflict == "fail":
            raise RecordsExist([batch[i].position for i in before], len(batch))
        if before and self._on_conflict == "replace":
            outcome = "replaced"
            await store.chunks.replace(
                list(before.values()), [db[i] for i in before], [index[i] for i in before], store.kb_id
            )
            self._writer.own_writes.note(before.values())
        self._outcomes |= {batch[i].id: (chunk_id, outcome) for i, chunk_id in before.items()}
        return [i for i in range(len(batch)) if i not in before]


def needs_embedding(record: CheckedRecord) -> bool:
    """Whether the record's vector is to be that of its text; a blank text has none."""
    return record.vector is None and record.text is not None and bool(record.text.strip())


def _one_of_each(records: Sequence[CheckedRecord], on_conflict: OnConflict) -> list[CheckedRecord]:
    """One record of each id, as if they were written one after the other. Raises `RecordsExist`."""
    kept: dict[str, CheckedRecord] = {}
    repeated = []
    for record in records:
        if record.id in kept:
            repeated.append(record.position)
        if on_conflict != "skip" or record.id not in kept:
            kept[record.id] = record
    if repeated and on_conflict == "fail":
        raise RecordsExist(repeated, len(records))
    return list(kept.values())


def _written(records: Sequence[CheckedRecord], outcomes: Mapping[str, Outcome]) -> Written:
    def of(outcome: Outcome) -> tuple[str, ...]:
        return tuple(record.id for record in records if outcomes.get(record.id) == outcome)

    return Written(of("inserted"), of("replaced"), of("known"))


def _changed(stored: ReadRecord, text: Change, metadata: Change, vector: Change) -> CheckedRecord:
    """The stored record with the changes; its vector is `...` where it stays."""
    new_text = stored.text if isinstance(text, EllipsisType) else checked_text(text)
    new_metadata = stored.metadata if isinstance(metadata, EllipsisType) else checked(metadata)
    if isinstance(vector, EllipsisType) and new_text != stored.text:
        vector = None  # of the new text
    return CheckedRecord(0, stored.id, new_text, new_metadata, as_text(new_metadata), vector)
