"""Stores records in atomic batches, whose embedding, encryption and storing overlap."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, Final

from xtrace_core.secrecy import Secretive
from xtrace_core.wire import OnConflict, Outcome
from xtrace_sdk.arguments import shown
from xtrace_sdk.collection.contents import EncryptedRecords, RecordCipher
from xtrace_sdk.collection.embedding import RecordEmbedder
from xtrace_sdk.collection.filterable import FilterableFields
from xtrace_sdk.collection.own_writes import OwnWrites
from xtrace_sdk.collection.record import CheckedRecord, Record, Written, checked_record
from xtrace_sdk.collection.storage import RecordStore
from xtrace_sdk.errors import InvalidArgument, NamesTaken, PartlyStored, RecordsExist
from xtrace_sdk.service.integration import InsertedIds
from xtrace_sdk.x_vec.data_loaders.loading import BATCHES_AHEAD
from xtrace_sdk.x_vec.data_loaders.pipeline import Pipeline
from xtrace_sdk.x_vec.data_loaders.sealing import SealAtEnd
from xtrace_sdk.x_vec.schemes.ciphertexts import EncryptedIndexBatch

BATCH_SIZE: Final = 500
"""The number of records in one transaction; fewer if they are large."""


class RecordInserter(Secretive):
    """Stores records of one namespace."""

    __slots__ = ("_cipher", "_embedder", "_own_writes", "_sealing", "_store")

    def __init__(
        self,
        store: RecordStore,
        cipher: RecordCipher,
        embedder: RecordEmbedder,
        own_writes: OwnWrites,
        sealing: SealAtEnd,
    ) -> None:
        self._store = store
        self._sealing = sealing
        self._cipher = cipher
        self._embedder = embedder
        self._own_writes = own_writes

    async def upsert(self, records: Iterable[Record | Mapping[str, Any]], on_conflict: OnConflict) -> Written:
        """See `Collection.upsert`."""
        if isinstance(records, Record | Mapping | str) or not isinstance(records, Iterable):
            raise InvalidArgument(f"records is {shown(records)}, expected a list of records, or of objects like them")
        given = await asyncio.to_thread(lambda: [checked_record(i, one) for i, one in enumerate(records)])
        wanted = _one_of_each(given, on_conflict)
        self._embedder.check(wanted)
        fields = await self._store.fields_to_write()
        await asyncio.to_thread(self._cipher.check_sizes, wanted, fields)
        if on_conflict == "fail" and (there := await self._store.located([one.id for one in wanted])):
            raise RecordsExist([one.position for one in wanted if one.id in there], len(given))
        upserting = _Upserting(self._store, self._cipher, self._embedder, self._own_writes, fields, on_conflict)
        try:
            with self._own_writes.writing():
                await upserting.run(wanted)
        except Exception as error:
            outcomes = upserting.outcomes
            cause = (error.__cause__ if isinstance(error, PartlyStored) else None) or error
            if isinstance(cause, NamesTaken):  # stored by others since they were looked up
                there = await self._store.located([one.id for one in wanted])
                taken = [one.position for one in wanted if one.id in there and one.id not in outcomes]
                cause = RecordsExist(taken, len(given))
            if outcomes:
                ids = [outcomes[one.id][0] if one.id in outcomes else None for one in given]
                raise PartlyStored(ids, cause) from cause
            if cause is error:
                raise
            raise cause from None
        await self._sealing.seal(self._store.kb_id, len(upserting.outcomes))
        return _written(wanted, {record_id: outcome for record_id, (_, outcome) in upserting.outcomes.items()})


class _Upserting:
    """One call of `upsert`, with batches in different stages."""

    def __init__(
        self,
        store: RecordStore,
        cipher: RecordCipher,
        embedder: RecordEmbedder,
        own_writes: OwnWrites,
        fields: FilterableFields,
        on_conflict: OnConflict,
    ) -> None:
        self._store = store
        self._cipher = cipher
        self._embedder = embedder
        self._own_writes = own_writes
        self._fields = fields
        self._on_conflict = on_conflict
        self.outcomes: dict[str, tuple[int, Outcome]] = {}
        """The chunk and the outcome of each stored record."""
        self._pipeline = Pipeline(BATCHES_AHEAD)
        self._embedding, self._encrypting, self._storing = (asyncio.Lock() for _ in range(3))

    async def run(self, records: Sequence[CheckedRecord]) -> None:
        async def batches() -> AsyncIterator[Sequence[CheckedRecord]]:
            for start in range(0, len(records), BATCH_SIZE):
                yield records[start : start + BATCH_SIZE]

        await self._pipeline.run(batches(), self._carry)

    async def _carry(self, number: int, batch: Sequence[CheckedRecord]) -> None:
        stage = self._pipeline.stage
        async with stage(self._embedding, number):
            vectors = await self._embedder.vectors(batch)
        async with stage(self._encrypting, number):
            index, db = await asyncio.to_thread(self._cipher.encrypt, batch, vectors, self._fields)
        async with stage(self._storing, number):
            await self._write(batch, index, db)

    async def _write(self, batch: Sequence[CheckedRecord], index: EncryptedIndexBatch, db: EncryptedRecords) -> None:
        left = await self._write_over_predecessors(batch, index, db)
        stored = 0

        def note(done: InsertedIds) -> None:
            nonlocal stored
            for chunk_id, outcome in zip(done, done.outcomes, strict=True):
                self.outcomes[batch[left[stored]].id] = chunk_id, outcome
                stored += 1
            self._own_writes.note(done)

        await self._store.chunks.insert(
            [db[i] for i in left],
            [index[i] for i in left],
            self._store.kb_id,
            note,
            batch_size=max(len(left), 1),
            on_conflict=self._on_conflict,
        )

    async def _write_over_predecessors(
        self, batch: Sequence[CheckedRecord], index: EncryptedIndexBatch, db: EncryptedRecords
    ) -> list[int]:
        """Handles records still under the context's predecessor; returns the positions of all others."""
        before = await self._store.under_predecessor([one.id for one in batch])
        old = {i: before[one.id] for i, one in enumerate(batch) if one.id in before}
        outcome: Outcome = "known"
        if old and self._on_conflict == "fail":
            raise RecordsExist([batch[i].position for i in old], len(batch))
        if old and self._on_conflict == "replace":
            outcome = "replaced"
            updates = [db[i] for i in old]
            await self._store.chunks.replace(list(old.values()), updates, [index[i] for i in old], self._store.kb_id)
            self._own_writes.note(old.values())
        self.outcomes |= {batch[i].id: (chunk_id, outcome) for i, chunk_id in old.items()}
        return [i for i in range(len(batch)) if i not in old]


def _one_of_each(records: Sequence[CheckedRecord], on_conflict: OnConflict) -> list[CheckedRecord]:
    """Returns one record for each id, as if they were written one after the other. Raises `RecordsExist`."""
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
