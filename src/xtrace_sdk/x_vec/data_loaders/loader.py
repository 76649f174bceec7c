"""From texts and vectors to encrypted chunks on the service."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xtrace_core.secrecy import Secretive
from xtrace_sdk.errors import InvalidArgument, InvalidVector, PartlyStored
from xtrace_sdk.progress import progress_bar
from xtrace_sdk.service.integration import XTraceIntegration
from xtrace_sdk.x_vec.chunks.envelope import Content, VectorCopy, pack
from xtrace_sdk.x_vec.chunks.private_metadata import PrivateMetaData, expect_private, hidden_meta_data, private_part
from xtrace_sdk.x_vec.chunks.vector_copies import CopyKind, as_floats, copy_kind, vector_copies
from xtrace_sdk.x_vec.chunks.vectors import Embedder, as_bits, embedded, resolve, resolve_all
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.contexts.lineage import of_each
from xtrace_sdk.x_vec.contexts.names import ChunkNames
from xtrace_sdk.x_vec.data_loaders.batches import Batch, Chunks, Vectors, batches, close, length_of
from xtrace_sdk.x_vec.data_loaders.chunks import ChunkReader, PlainChunk, plain_chunks
from xtrace_sdk.x_vec.data_loaders.patching import Patching
from xtrace_sdk.x_vec.data_loaders.pipeline import Pipeline
from xtrace_sdk.x_vec.schemes.ciphertexts import EncryptedIndex, EncryptedIndexBatch
from xtrace_sdk.x_vec.stored.names import adopt_names, agreed_names, stored_names

EncryptedChunks = list[dict[str, Any]]
"""Encrypted chunks before they have their names: `chunk_content`, `meta_data` and `base_name` each."""
EmbeddedVectors = Sequence[Any] | NDArray[Any]
"""Vectors as they were given or as the model gave them, one for each chunk."""

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


class DataLoader(Secretive):
    """Encrypts chunks and stores them in a knowledge base.

    The service gets ciphertexts, metadata in clear but for the context's private fields, and a pseudonym for each
    chunk's name, by which a second run of the same load finds what is there and stores nothing twice. The same chunk
    has another name in each knowledge base; the service keeps the salt that makes the difference, and a call that
    makes names raises `ForeignNameSalt` for one that was not made for the knowledge base.
    """

    def __init__(
        self,
        execution_context: ExecutionContext,
        integration: XTraceIntegration,
        private_metadata: PrivateMetaData | None = None,
        *,
        vector_copy: CopyKind | None = None,
    ) -> None:
        """`private_metadata`, as it was given to `ExecutionContext.create`, makes sure that the context is such a one.

        `vector_copy` stores a copy of each float vector inside its chunk's encrypted content, for rescoring:
        `Retriever.search(…, rescore=4)` orders what it finds by them. `"int8"` adds a byte a dimension to the content,
        `"float32"` four; recall hardly differs (docs/recall.md). Vectors must be floats then. Chunks with a copy have
        other names than those without: loading a collection again with copies stores it again, and `superseded` names
        the chunks to delete.

        Raises `InvalidArgument` for other private fields than the context's, and for another kind of copy.
        """
        expect_private(execution_context, private_metadata)
        self._context = execution_context
        self._integration = integration
        for one in execution_context.lineage:
            integration.declare_private(one.id, one.private_metadata)
        self._vector_copy = copy_kind(vector_copy)
        self._registered = False
        self._agreed: dict[str, ChunkNames] = {}
        """How chunks are named, by knowledge base."""

    async def load_data_from_memory(
        self, collection: Sequence[Mapping[str, Any]], vectors: Sequence[Any]
    ) -> tuple[EncryptedIndexBatch, EncryptedChunks]:
        """`(index, db)`: the encrypted vectors and the encrypted chunks, in the order of the collection.

        Args:
            collection: chunks as `{"chunk_content": str, "meta_data": {…}}`.
            vectors: one for each chunk: bits, floats (taken by their sign) or awaitables of either; with `vector_copy`
                floats or awaitables of them.

        Nothing is sent. Raises `InvalidArgument`, `InvalidVector`, `InvalidMetaData`.
        """
        if len(collection) != len(vectors):
            close(vectors)
            raise InvalidArgument(f"got {len(collection)} chunks and {len(vectors)} vectors, expected as many of each")
        try:
            chunks = plain_chunks(collection, self._context, self._vector_copy)
        except BaseException:
            close(vectors)
            raise
        return await asyncio.to_thread(self._encrypt, chunks, await resolve_all(vectors))

    async def load_data_from_memory_batch(
        self, collection: Sequence[Mapping[str, Any]], vectors: Any
    ) -> tuple[EncryptedIndexBatch, EncryptedChunks]:
        """The same for the vectors as one matrix `(n, embed_len)`, or an awaitable of one such as `bin_embed_many`."""
        matrix = await resolve(vectors)
        return await self.load_data_from_memory(collection, list(matrix))

    async def dump_db(
        self, db: EncryptedChunks, index: Sequence[EncryptedIndex], kb_id: str, concurrent: bool = False
    ) -> list[int]:
        """Stores encrypted chunks and returns their ids, in order; chunks that are there already are not sent again.

        Each batch of 500 is stored wholly or not at all, so a load that was cut off goes on where it stopped. With
        `concurrent`, several batches travel at once. The service learns the context's public part first, never its
        secret. Raises what `XTraceIntegration` raises.
        """
        if len(db) != len(index):
            raise InvalidArgument(f"got {len(db)} chunks and {len(index)} indexes, expected as many of each")
        with progress_bar("Storing", len(db)) as advance:
            return await self._store(db, index, kb_id, concurrent, advance)

    async def load(
        self,
        collection: Chunks,
        embedding: Embedder | Vectors,
        kb_id: str,
        batch_size: int = BATCH_SIZE,
        *,
        on_progress: Callable[[LoadSummary], object] | None = None,
    ) -> LoadSummary:
        """Embeds, encrypts and stores the chunks that a knowledge base does not have yet.

        Args:
            collection: chunks as `{"chunk_content": str, "meta_data": {…}}`: in memory, or made while they are read, by
                a generator (which runs in a thread) or an asynchronous one.
            embedding: the model, or the vectors themselves, one for each chunk in the same order.
            kb_id: the knowledge base.
            batch_size: chunks that go through together; fewer where they are long.
            on_progress: is told what is stored each time that it is more.

        Reading, embedding, encrypting and storing overlap. A few batches are in memory at a time, and of every chunk
        its name. What the knowledge base has is recognised, batch by batch, before it is embedded, so a load that was
        cut off, or a collection that has grown, costs only what is missing.

        Raises what `load_data_from_memory`, `dump_db`, the collection and the embedding raise, with a note of what is
        stored: every batch before the one that failed is. When it is cancelled, what the service has acknowledged is
        stored, and perhaps a batch on its way.
        """
        if batch_size < 1:
            raise InvalidArgument(f"batch_size is {batch_size}, expected at least 1")
        with progress_bar("Loading", length_of(collection)) as advance:
            load = _Load(self, kb_id, advance, on_progress or (lambda summary: None))
            return await load.run(collection, embedding, batch_size)

    async def superseded(self, collection: Chunks | LoadSummary, kb_id: str) -> list[int]:
        """The ids of the chunks of this context in a knowledge base that are not in the collection (any more).

        What a finished load returned stands for its collection. Reads the names of all chunks that are stored.
        """
        base_names = collection.base_names if isinstance(collection, LoadSummary) else await self._read(collection)
        known = await stored_names(self._context, self._integration, kb_id)
        names = {} if known is None else await asyncio.to_thread(known.by_name, base_names)

        async def gone(context: ExecutionContext) -> list[int]:
            stored = self._integration.iter_meta_search(kb_id, {}, context.id, projection=["name"])
            return [chunk["chunk_id"] async for chunk in stored if chunk.get("name") not in names]

        return sorted({chunk_id for _, chunk_ids in await of_each(self._context, gone) for chunk_id in chunk_ids})

    async def upsert_one(self, chunk: Mapping[str, Any], vector: Any, kb_id: str, chunk_id: int | None = None) -> int:
        """Stores one chunk and returns its id: in place of the chunk `chunk_id`, or as a new one without it.

        A new chunk that is there already, text and metadata, is not stored again. Raises `NotFound` for an unknown
        `chunk_id`.
        """
        index, db = await self.load_data_from_memory([chunk], [vector])
        if chunk_id is None:
            return (await self.dump_db(db, index, kb_id))[0]
        await self.update_chunks([chunk_id], db, index, kb_id)
        return chunk_id

    async def update_chunks(
        self, chunk_ids: Sequence[int], db: EncryptedChunks, index: Sequence[EncryptedIndex], kb_id: str
    ) -> None:
        """Replaces stored chunks, content, vector and metadata, by encrypted ones in the same order; all or none.

        Raises `NotFound`, naming them, if some of the ids are unknown.
        """
        if not len(chunk_ids) == len(db) == len(index):
            raise InvalidArgument(
                f"got {len(chunk_ids)} ids, {len(db)} chunks and {len(index)} indexes, expected as many of each"
            )
        named = _named(db, await self._names(kb_id))
        updates = [{"chunk_id": chunk_id, **chunk} for chunk_id, chunk in zip(chunk_ids, named, strict=True)]
        await self._integration.update_chunks(updates, index, kb_id, self._context.id)

    async def adopt_names(self, kb_id: str, copied_from: str) -> None:
        """Confirms that a knowledge base is a copy of another, so that loads recognise the chunks that came with it.

        A copy made without keys, by an import or a restored backup, under another id keeps the salt for names that was
        made for the original's id: without this, loads into it raise `ForeignNameSalt`, because the service could as
        well have taken the salt from any other knowledge base. The names in both stay equal, as they were copied.

        Raises `ForeignNameSalt` if the salt was not made for `copied_from` either, `InvalidArgument` if there is none.
        """
        await adopt_names(self._context, self._integration, kb_id, copied_from)

    async def delete_chunks(self, chunk_ids: Sequence[int], kb_id: str) -> int:
        """Deletes chunks and returns how many there were; unknown ids are ignored."""
        return await self._integration.delete_chunks(chunk_ids, kb_id)

    # By metadata, in clear

    async def patch_chunks(self, patches: Sequence[Mapping[str, Any]], kb_id: str) -> None:
        """Changes metadata of chunks: `{"chunk_id": 7, "meta_data": {"tag1": "new", "tag2": None}}` each, in clear.

        None removes a field; what is not named stays. Where no private field is named, as
        `XTraceIntegration.patch_chunks`. For private fields the contents are fetched and encrypted again with the same
        vectors, 500 chunks a transaction; what others change meanwhile is fetched again, never overwritten. The names
        by which loads recognise chunks stay.

        Raises `ChunksNotFound`, which names unknown ids, `ContentTampered`, `InvalidMetaData`, and `PartlyStored` if
        batches before are done; doing it all again is safe.
        """
        await Patching(self._context, self._integration, kb_id).patch(patches)

    async def patch_chunks_by_meta(
        self, meta_filter: Mapping[str, Any] | str, patch: Mapping[str, Any], kb_id: str, dry_run: bool = False
    ) -> int:
        """Changes metadata of the chunks of the context that the filter matches, all in clear, and returns how many.

        `{}` matches every chunk; with `dry_run` nothing is changed. Without private fields in the patch it is one
        transaction of the service, with them as in `patch_chunks`: after an error some may be done, and doing it again
        is safe. Raises `InvalidFilter`, `NotOnPrivateField`, `InvalidMetaData`, `ContentTampered`.
        """
        return await Patching(self._context, self._integration, kb_id).patch_matching(meta_filter, patch, dry_run)

    async def delete_chunks_by_meta(
        self, meta_filter: Mapping[str, Any] | str, kb_id: str, dry_run: bool = False
    ) -> int:
        """Deletes the chunks of the context that the filter, in clear, matches, and returns how many.

        `{}` matches every chunk; with `dry_run` nothing is deleted. Raises `InvalidFilter`, `NotOnPrivateField`.
        """
        return await Patching(self._context, self._integration, kb_id).delete_matching(meta_filter, dry_run)

    async def _store(
        self,
        db: EncryptedChunks,
        index: Sequence[EncryptedIndex],
        kb_id: str,
        concurrent: bool,
        advance: Callable[[int], None],
    ) -> list[int]:
        base_names = [_base_name(chunk) for chunk in db]
        stored = await self._stored(base_names, kb_id)
        missing = [i for i, base_name in enumerate(base_names) if base_name not in stored]
        advance(len(db) - len(missing))
        new_ids = await self._integration.store_db(
            _named([db[i] for i in missing], await self._names(kb_id)),
            [index[i] for i in missing],
            kb_id,
            self._context.id,
            concurrent=concurrent,
            on_stored=advance,
        )
        stored |= dict(zip([base_names[i] for i in missing], new_ids, strict=True))
        return [stored[base_name] for base_name in base_names]

    async def _stored(self, base_names: Iterable[str], kb_id: str) -> dict[str, int]:
        """The ids of the chunks of these base names that are there, by base name."""
        by_name = await asyncio.to_thread((await self._names(kb_id)).by_name, base_names)
        names = list(by_name)
        found: dict[str, int] = {}
        for _, chunk_ids in await of_each(
            self._context, lambda context: self._integration.find_chunk_names(kb_id, context.id, names)
        ):
            found |= chunk_ids
        return {by_name[name]: chunk_id for name, chunk_id in found.items()}

    async def _names(self, kb_id: str) -> ChunkNames:
        await self._register()
        if kb_id not in self._agreed:
            self._agreed[kb_id] = await agreed_names(self._context, self._integration, kb_id)
        return self._agreed[kb_id]

    async def _register(self) -> None:
        if not self._registered:
            await self._integration.store_exec_context(self._context.public_data(), self._context.id)
            self._registered = True

    async def _read(self, collection: Chunks) -> Set[str]:
        """The base names of a collection."""
        reader = ChunkReader(self._context, self._vector_copy)
        async for _ in batches(collection, reader, BATCH_SIZE):
            pass
        return reader.base_names

    def _encrypt(
        self, chunks: Sequence[PlainChunk], vectors: EmbeddedVectors
    ) -> tuple[EncryptedIndexBatch, EncryptedChunks]:
        plaintexts = self._plaintexts(chunks, vectors)
        index = self._context.homomorphic.encrypt_vec_batch(self._converted(chunks, vectors, as_bits, np.uint8))
        db = [
            {
                "chunk_content": self._context.aes.encrypt(plaintext, encrypted.nonce),
                "meta_data": hidden_meta_data(self._context, chunk.meta_data),
                "base_name": chunk.base_name,
            }
            for chunk, plaintext, encrypted in zip(chunks, plaintexts, index, strict=True)
        ]
        return index, db

    def _plaintexts(self, chunks: Sequence[PlainChunk], vectors: EmbeddedVectors) -> list[bytes]:
        copies: Sequence[VectorCopy | None] = [None] * len(chunks)
        if self._vector_copy is not None:
            copies = list(vector_copies(self._converted(chunks, vectors, as_floats, np.float32), self._vector_copy))
        return [
            pack(Content(chunk.content, private_part(self._context, chunk.meta_data), copy))
            for chunk, copy in zip(chunks, copies, strict=True)
        ]

    def _converted(
        self,
        chunks: Sequence[PlainChunk],
        vectors: EmbeddedVectors,
        convert: Callable[[Any, int], NDArray[Any]],
        dtype: type,
    ) -> NDArray[Any]:
        """Each vector as `as_bits` or `as_floats` gives it, in one matrix `(n, embed_len)`."""
        if len(vectors) != len(chunks):
            raise InvalidArgument(f"got {len(vectors)} vectors for {len(chunks)} texts, expected one for each")
        converted: NDArray[Any] = np.empty((len(vectors), self._context.embed_len()), dtype=dtype)
        for i, (chunk, vector) in enumerate(zip(chunks, vectors, strict=True)):
            try:
                converted[i] = convert(vector, self._context.embed_len())
            except InvalidVector as error:
                raise InvalidVector(f"vector {chunk.position}: {error}") from None
        return converted


class _Load:
    """One call of `DataLoader.load`."""

    def __init__(
        self,
        loader: DataLoader,
        kb_id: str,
        advance: Callable[[int], None],
        on_progress: Callable[[LoadSummary], object],
    ) -> None:
        self._loader = loader
        self._kb_id = kb_id
        self._advance = advance
        self._on_progress = on_progress
        self._reader = ChunkReader(loader._context, loader._vector_copy)
        self._done = LoadSummary(base_names=self._reader.base_names)
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
        loader, stage = self._loader, self._pipeline.stage
        try:
            async with stage(self._looking_up, number):
                stored = await loader._stored([chunk.base_name for chunk in batch.chunks], self._kb_id)
                self._add(already_stored=len(stored))
            missing = batch.without(stored)
            if not missing.chunks:
                return
            async with stage(self._embedding, number):
                vectors = await _vectors(missing, model, as_floats=loader._vector_copy is not None)
            async with stage(self._encrypting, number):
                index, db = await asyncio.to_thread(loader._encrypt, missing.chunks, vectors)
            async with stage(self._storing, number):
                await self._store(index, db)
        finally:
            close(batch.vectors or ())

    async def _store(self, index: EncryptedIndexBatch, db: EncryptedChunks) -> None:
        integration, context_id = self._loader._integration, self._loader._context.id
        named = _named(db, await self._loader._names(self._kb_id))
        try:
            await integration.store_db(
                named,
                index,
                self._kb_id,
                context_id,
                batch_size=len(db),
                on_stored=lambda count: self._add(stored=count),
            )
        except PartlyStored as error:  # of this batch; the counts are those of the load
            raise (error.__cause__ or error) from None

    def _add(self, stored: int = 0, already_stored: int = 0) -> None:
        done = self._done
        self._done = LoadSummary(done.stored + stored, done.already_stored + already_stored, done.base_names)
        if stored or already_stored:
            self._advance(stored + already_stored)
            self._on_progress(self._done)


async def _vectors(batch: Batch, model: Embedder | None, as_floats: bool) -> EmbeddedVectors:
    if model is not None:
        return await embedded(model, [chunk.content for chunk in batch.chunks], as_floats=as_floats)
    return await resolve_all(batch.vectors or ())


def _base_name(chunk: Mapping[str, Any]) -> str:
    base_name = chunk.get("base_name")
    if not isinstance(base_name, str):
        raise InvalidArgument("a chunk has no base_name, expected chunks as load_data_from_memory returns them")
    return base_name


def _named(db: EncryptedChunks, names: ChunkNames) -> EncryptedChunks:
    """The chunks as they are sent: each with its name in a knowledge base in place of its base name."""
    return [
        {key: chunk[key] for key in chunk if key != "base_name"} | {"name": names.name(_base_name(chunk))}
        for chunk in db
    ]
