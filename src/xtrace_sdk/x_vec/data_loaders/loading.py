"""One load: batches of a collection go through its stages, each batch in another."""

import asyncio
from collections.abc import Callable, Sequence, Set
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

from xtrace_sdk.errors import PartlyStored
from xtrace_sdk.x_vec.chunks.vectors import Embedder, embedded, resolve_all
from xtrace_sdk.x_vec.data_loaders.batches import Batch, Chunks, Vectors, batches, close
from xtrace_sdk.x_vec.data_loaders.chunks import ChunkReader
from xtrace_sdk.x_vec.data_loaders.encrypting import ChunkEncryptor, EmbeddedVectors, EncryptedChunks
from xtrace_sdk.x_vec.data_loaders.pipeline import Pipeline
from xtrace_sdk.x_vec.data_loaders.storing import ChunkStore
from xtrace_sdk.x_vec.schemes.ciphertexts import EncryptedIndexBatch

BATCH_SIZE: Final = 500
"""Chunks that are embedded, encrypted and stored together."""
BATCHES_AHEAD: Final = 5
"""Batches of a load that are in memory: one each is read, looked up, embedded, encrypted and stored."""


@dataclass(frozen=True, slots=True)
class LoadSummary:
    """What a load did, or has done so far."""

    stored: int = 0
    already_stored: int = 0
    base_names: Set[str] = field(default=frozenset(), repr=False, compare=False)
    """Those of all chunks that were read, from which their names in any knowledge base follow."""


class Load:
    """One call of `DataLoader.load`."""

    def __init__(
        self,
        reader: ChunkReader,
        encryptor: ChunkEncryptor,
        store: ChunkStore,
        kb_id: str,
        on_progress: Callable[[LoadSummary], object],
    ) -> None:
        """`on_progress` is told what is stored each time that it is more."""
        self._reader = reader
        self._encryptor = encryptor
        self._store = store
        self._kb_id = kb_id
        self._on_progress = on_progress
        self._done = LoadSummary(base_names=reader.base_names)
        self._pipeline = Pipeline(BATCHES_AHEAD)
        self._looking_up, self._embedding, self._encrypting, self._storing = (asyncio.Lock() for _ in range(4))

    async def run(self, collection: Chunks, embedding: Embedder | Vectors, batch_size: int) -> LoadSummary:
        model, vectors = (embedding, None) if isinstance(embedding, Embedder) else (None, embedding)
        source = batches(collection, self._reader, batch_size, vectors)
        try:
            async with aclosing(source):
                await self._pipeline.run(source, lambda number, batch: self._carry(number, batch, model))
        except BaseException as error:
            error.add_note(
                f"{self._done.stored} chunks were stored and {self._done.already_stored} were there before: "
                "load the same collection again to go on"
            )
            raise
        finally:
            close(vectors if isinstance(vectors, Sequence) else ())
        return self._done

    async def _carry(self, number: int, batch: Batch, model: Embedder | None) -> None:
        """Takes a batch from its texts to the knowledge base."""
        stage = self._pipeline.stage
        try:
            async with stage(self._looking_up, number):
                stored = await self._store.stored([chunk.base_name for chunk in batch.chunks], self._kb_id)
                self._add(already_stored=len(stored))
            missing = batch.without(stored)
            if not missing.chunks:
                return
            async with stage(self._embedding, number):
                vectors = await _vectors(missing, model, as_floats=self._encryptor.vector_copy is not None)
            async with stage(self._encrypting, number):
                index, db = await asyncio.to_thread(self._encryptor.encrypt, missing.chunks, vectors)
            async with stage(self._storing, number):
                await self._insert(index, db)
        finally:
            close(batch.vectors or ())

    async def _insert(self, index: EncryptedIndexBatch, db: EncryptedChunks) -> None:
        try:
            await self._store.insert(db, index, self._kb_id, lambda count: self._add(stored=count), batch_size=len(db))
        except PartlyStored as error:  # of this batch; the counts are those of the load
            raise (error.__cause__ or error) from None

    def _add(self, stored: int = 0, already_stored: int = 0) -> None:
        done = self._done
        self._done = LoadSummary(done.stored + stored, done.already_stored + already_stored, done.base_names)
        if stored or already_stored:
            self._on_progress(self._done)


async def _vectors(batch: Batch, model: Embedder | None, as_floats: bool) -> EmbeddedVectors:
    if model is not None:
        return await embedded(model, [chunk.content for chunk in batch.chunks], as_floats=as_floats)
    return await resolve_all(batch.vectors or ())
