"""One load: batches of a collection go through its stages, each batch in another."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence, Set
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Final

from xtrace_core.wire import OnConflict, Outcome
from xtrace_sdk.errors import PartlyStored
from xtrace_sdk.service.integration import XTraceIntegration
from xtrace_sdk.x_vec.chunks.vectors import Embedder, embedded, resolve_all
from xtrace_sdk.x_vec.data_loaders.batches import Batch, Chunks, Vectors, batches, close
from xtrace_sdk.x_vec.data_loaders.chunks import ChunkReader
from xtrace_sdk.x_vec.data_loaders.encrypting import ChunkEncryptor, EmbeddedVectors
from xtrace_sdk.x_vec.data_loaders.pipeline import Pipeline
from xtrace_sdk.x_vec.data_loaders.replacing import Replacing
from xtrace_sdk.x_vec.data_loaders.storing import ChunkStore

BATCH_SIZE: Final = 500
"""Chunks that are embedded, encrypted and stored together."""
BATCHES_AHEAD: Final = 5
"""Batches of a load that are in memory: one each is read, looked up, embedded, encrypted and stored."""


@dataclass(frozen=True, slots=True)
class LoadSummary:
    """What a load did, or has done so far."""

    inserted: int = 0
    """Chunks that were not there before."""
    known: int = 0
    """Chunks that were there, and were left as they were."""
    replaced: int = 0
    """Chunks that were there otherwise."""
    base_names: Set[str] = field(default=frozenset(), repr=False, compare=False)
    """Those of all chunks that were read, from which their names in any knowledge base follow."""

    @property
    def stored(self) -> int:
        """Chunks that were written."""
        return self.inserted + self.replaced

    def with_more(self, outcomes: Sequence[Outcome]) -> "LoadSummary":
        """The summary after further chunks, of which these are the outcomes."""
        counts = Counter(outcomes)
        return replace(self, **{name: getattr(self, name) + count for name, count in counts.items()})


class Load:
    """One call of `DataLoader.load`."""

    def __init__(
        self,
        reader: ChunkReader,
        encryptor: ChunkEncryptor,
        store: ChunkStore,
        integration: XTraceIntegration,
        kb_id: str,
        on_progress: Callable[[LoadSummary], object],
        on_conflict: OnConflict,
    ) -> None:
        """`on_progress` is told what is stored each time that it is more."""
        self._reader = reader
        self._encryptor = encryptor
        self._store = store
        self._integration = integration
        self._on_conflict = on_conflict
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
                f"{self._done.stored} chunks were stored and {self._done.known} were there before: "
                "load the same collection again to go on"
            )
            raise
        finally:
            close(vectors if isinstance(vectors, Sequence) else ())
        return self._done

    async def _carry(self, number: int, batch: Batch, model: Embedder | None) -> None:
        """Takes a batch from its texts to the knowledge base."""
        try:
            if self._on_conflict == "replace":
                await self._carry_all(number, batch, model)
            else:
                await self._carry_missing(number, batch, model)
        except PartlyStored as error:  # of this batch; the counts are those of the load
            raise (error.__cause__ or error) from None
        finally:
            close(batch.vectors or ())

    async def _carry_missing(self, number: int, batch: Batch, model: Embedder | None) -> None:
        stage = self._pipeline.stage
        async with stage(self._looking_up, number):
            base_names = [chunk.base_name for chunk in batch.chunks]
            if self._on_conflict == "fail":
                await self._store.expect_new(base_names, self._kb_id)
            stored = await self._store.stored(base_names, self._kb_id)
            self._add(["known"] * len(stored))
        missing = batch.without(stored)
        if not missing.chunks:
            return
        async with stage(self._embedding, number):
            vectors = await self._vectors(missing, model)
        async with stage(self._encrypting, number):
            index, db = await asyncio.to_thread(self._encryptor.encrypt, missing.chunks, vectors)
        async with stage(self._storing, number):
            await self._store.insert(
                db, index, self._kb_id, self._add, batch_size=len(db), on_conflict=self._on_conflict
            )

    async def _carry_all(self, number: int, batch: Batch, model: Embedder | None) -> None:
        stage = self._pipeline.stage
        async with stage(self._embedding, number):
            vectors = await self._vectors(batch, model)
        async with stage(self._storing, number):
            replacing = Replacing(batch.chunks, vectors, self._encryptor, self._store, self._integration, self._kb_id)
            await replacing.write(self._add)

    async def _vectors(self, batch: Batch, model: Embedder | None) -> EmbeddedVectors:
        if model is None:
            return await resolve_all(batch.vectors or ())
        as_floats = self._encryptor.vector_copy is not None
        return await embedded(model, [chunk.content for chunk in batch.chunks], as_floats=as_floats)

    def _add(self, outcomes: Sequence[Outcome]) -> None:
        self._done = self._done.with_more(outcomes)
        if outcomes:
            self._on_progress(self._done)
