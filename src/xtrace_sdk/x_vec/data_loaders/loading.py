"""One load: batches of a collection pass through its stages concurrently."""

import asyncio
import warnings
from array import array
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence, Set
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Final

from xtrace_core.wire import OnConflict
from xtrace_sdk.errors import InvalidArgument, PartlyStored
from xtrace_sdk.notices import PassedOver
from xtrace_sdk.service.integration import InsertedIds, XTraceIntegration
from xtrace_sdk.x_vec.chunks.vectors import Embedder, resolve_all
from xtrace_sdk.x_vec.contexts.names import ChunkNames
from xtrace_sdk.x_vec.data_loaders.batches import Batch, Chunks, Vectors, batches, close
from xtrace_sdk.x_vec.data_loaders.chunks import ChunkReader, PassedOverText, PlainChunk
from xtrace_sdk.x_vec.data_loaders.embedding import BatchEmbedder
from xtrace_sdk.x_vec.data_loaders.encrypting import ChunkEncryptor, EmbeddedVectors, EncryptedChunks, named
from xtrace_sdk.x_vec.data_loaders.pipeline import Pipeline
from xtrace_sdk.x_vec.data_loaders.replacing import Replacing
from xtrace_sdk.x_vec.data_loaders.storing import ChunkStore
from xtrace_sdk.x_vec.schemes.ciphertexts import EncryptedIndexBatch

_SHOWN: Final = 3
BATCH_SIZE: Final = 500
"""Chunks that are embedded, encrypted and stored together."""
BATCHES_AHEAD: Final = 5
"""Batches of a load in memory: one for each stage (read, look up, embed, encrypt, store)."""


@dataclass(frozen=True, slots=True)
class LoadSummary:
    """The result of a load, final or so far."""

    inserted: int = 0
    """The number of new chunks."""
    known: int = 0
    """The number of chunks that already existed and were kept."""
    replaced: int = 0
    """The number of chunks that existed and were replaced."""
    base_names: Set[str] = field(default=frozenset(), repr=False, compare=False)
    """The base names of all chunks read, from which their names in any knowledge base are derived."""
    passed_over: Sequence[PassedOverText] = field(default=(), compare=False)
    """Chunks that were skipped because they cannot be loaded, with the reasons."""
    kb_id: str = field(default="", compare=False)
    inserted_ids: Sequence[int] = field(default=(), repr=False, compare=False)
    """The ids of the new chunks."""
    is_finished: bool = field(default=False, compare=False)
    """Whether the whole collection was read, and every chunk in it is stored or skipped."""

    @property
    def stored(self) -> int:
        """The number of chunks written."""
        return self.inserted + self.replaced

    def with_more(self, done: InsertedIds) -> "LoadSummary":
        """Returns the summary with more chunks added, given their ids and outcomes."""
        counts = Counter(done.outcomes)
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
        is_strict: bool,
    ) -> None:
        """`on_progress` is called with the summary whenever more is stored."""
        self._is_strict = is_strict
        self._inserted = array("q")
        self._reader = reader
        self._encryptor = encryptor
        self._store = store
        self._integration = integration
        self._on_conflict = on_conflict
        self._kb_id = kb_id
        self._on_progress = on_progress
        self._done = LoadSummary(
            base_names=reader.base_names,
            passed_over=reader.passed_over,
            kb_id=kb_id,
            inserted_ids=self._inserted,
        )
        self._pipeline = Pipeline(BATCHES_AHEAD)
        self._looking_up, self._embedding, self._encrypting, self._storing = (asyncio.Lock() for _ in range(4))

    @property
    def done(self) -> LoadSummary:
        """The summary so far."""
        return self._done

    async def run(self, collection: Chunks, embedding: Embedder | Vectors, batch_size: int) -> LoadSummary:
        model, vectors = (self._embedder(embedding), None) if isinstance(embedding, Embedder) else (None, embedding)
        source = batches(collection, self._reader, batch_size, vectors, is_strict=self._is_strict)
        try:
            async with aclosing(source):
                await self._pipeline.run(source, lambda number, batch: self._carry(number, batch, model))
        except BaseException as error:
            error.add_note(
                f"{self._done.stored} chunks were stored and {self._done.known} were there before: load the same "
                "collection again to go on, or delete what was stored with loader.undo(loader.last_load)"
            )
            raise
        finally:
            close(vectors if isinstance(vectors, Sequence) else ())
        self._done = replace(self._done, is_finished=True)
        self._warn_of_passed_over()
        return self._done

    async def _carry(self, number: int, batch: Batch, model: BatchEmbedder | None) -> None:
        """Embeds, encrypts and stores a batch."""
        try:
            if self._on_conflict == "replace":
                await self._carry_all(number, batch, model)
            else:
                await self._carry_missing(number, batch, model)
        except PartlyStored as error:  # its counts are this batch's, those below the load's
            raise (error.__cause__ or error) from None
        finally:
            close(batch.vectors or ())

    async def _carry_missing(self, number: int, batch: Batch, model: BatchEmbedder | None) -> None:
        stage = self._pipeline.stage
        async with stage(self._looking_up, number):
            base_names = [chunk.base_name for chunk in batch.chunks]
            if self._on_conflict == "fail":
                await self._store.check_new(base_names, self._kb_id)
            stored = await self._store.stored(base_names, self._kb_id)
            self._add(InsertedIds(stored.values(), ["known"] * len(stored)))
        missing = batch.without(stored)
        if not missing.chunks:
            return
        async with stage(self._embedding, number):
            chunks, vectors = await _vectors(missing, model)
        if not chunks:
            return
        async with stage(self._encrypting, number):
            names = await self._store.names(self._kb_id)
            # Everything that can be done before, because while this batch is stored, no other one is.
            index, db = await asyncio.to_thread(self._encrypted, chunks, vectors, names)
        async with stage(self._storing, number):
            await self._store.insert_named(db, index, self._kb_id, self._add, self._on_conflict)

    def _encrypted(
        self, chunks: Sequence[PlainChunk], vectors: EmbeddedVectors, names: ChunkNames
    ) -> tuple[EncryptedIndexBatch, EncryptedChunks]:
        """Returns the chunks for sending."""
        index, db = self._encryptor.encrypt(chunks, vectors)
        return index, named(db, names)

    async def _carry_all(self, number: int, batch: Batch, model: BatchEmbedder | None) -> None:
        stage = self._pipeline.stage
        async with stage(self._embedding, number):
            chunks, vectors = await _vectors(batch, model)
        if not chunks:
            return
        async with stage(self._storing, number):
            replacing = Replacing(chunks, vectors, self._encryptor, self._store, self._integration, self._kb_id)
            await replacing.write(self._add)

    def _embedder(self, model: Embedder) -> BatchEmbedder:
        as_floats = self._encryptor.vector_copy is not None
        return BatchEmbedder(model, self._reader.passed_over, as_floats=as_floats, is_strict=self._is_strict)

    def _add(self, done: InsertedIds) -> None:
        self._inserted.extend(
            chunk_id for chunk_id, outcome in zip(done, done.outcomes, strict=True) if outcome == "inserted"
        )
        self._done = self._done.with_more(done)
        if done:
            self._on_progress(self._done)

    def _warn_of_passed_over(self) -> None:
        if passed_over := self._reader.passed_over:
            first = "; ".join(f"chunk {one.position}: {one.reason}" for one in passed_over[:_SHOWN])
            warnings.warn(
                f"{len(passed_over)} of the collection's chunks were skipped ({first}): the summary lists them "
                "in passed_over; strict=True makes this an error",
                PassedOver,
                stacklevel=2,
            )


async def _vectors(batch: Batch, model: BatchEmbedder | None) -> tuple[Sequence[PlainChunk], EmbeddedVectors]:
    """Returns the chunks of the batch that have vectors, and the vectors."""
    if model is None:
        return batch.chunks, await resolve_all(batch.vectors or ())
    return await model.embed(batch.chunks)


def check_is_whole(collection: Chunks | LoadSummary, base_names: Set[str]) -> None:
    """Raises `InvalidArgument` for an unfinished load, and for an exhausted iterator."""
    if isinstance(collection, LoadSummary) and not collection.is_finished:
        raise InvalidArgument(
            "the load did not finish, so its summary does not represent the collection: load it again"
        )
    if isinstance(collection, Iterator | AsyncIterator) and not base_names:
        raise InvalidArgument(
            "the collection is an exhausted iterator: pass the summary that the load returned instead"
        )
