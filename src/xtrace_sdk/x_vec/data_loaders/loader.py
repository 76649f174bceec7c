"""From texts and vectors to encrypted chunks on the service."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xtrace_sdk.errors import InvalidArgument, InvalidVector
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.crypto.ciphertexts import EncryptedIndex, EncryptedIndexBatch
from xtrace_sdk.x_vec.data_loaders.chunks import PlainChunk, plain_chunks
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
from xtrace_sdk.x_vec.utils.lineage import of_each
from xtrace_sdk.x_vec.utils.progress import progress_bar
from xtrace_sdk.x_vec.utils.vectors import Embedder, as_bits, resolve

Collection = Sequence[Mapping[str, Any]]
EncryptedChunks = list[dict[str, Any]]

BATCH_SIZE = 500
"""Chunks that are embedded, encrypted and stored together."""


@dataclass(frozen=True, slots=True)
class LoadSummary:
    """What a load did."""

    stored: int
    already_stored: int


class DataLoader:
    """Encrypts chunks and stores them in a knowledge base.

    The service gets ciphertexts, metadata in clear, and a pseudonym for each chunk's name, by which a second run of the
    same load finds what is there and stores nothing twice.
    """

    def __init__(self, execution_context: ExecutionContext, integration: XTraceIntegration) -> None:
        self._context = execution_context
        self._integration = integration
        self._registered = False

    async def load_data_from_memory(
        self, collection: Collection, vectors: Sequence[Any]
    ) -> tuple[EncryptedIndexBatch, EncryptedChunks]:
        """`(index, db)`: the encrypted vectors and the encrypted chunks, in the order of the collection.

        Args:
            collection: chunks as `{"chunk_content": str, "meta_data": {…}}`.
            vectors: one for each chunk: bits, floats (taken by their sign) or awaitables of either.

        Nothing is sent. Raises `InvalidArgument`, `InvalidVector`, `InvalidMetaData`.
        """
        if len(collection) != len(vectors):
            _close(vectors)
            raise InvalidArgument(f"got {len(collection)} chunks and {len(vectors)} vectors, expected as many of each")
        try:
            chunks = plain_chunks(collection, self._context)
        except BaseException:
            _close(vectors)
            raise
        resolved = await asyncio.gather(*(resolve(vector) for vector in vectors))
        return await asyncio.to_thread(self._encrypt, chunks, resolved)

    async def load_data_from_memory_batch(
        self, collection: Collection, vectors: Any
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
        self, collection: Collection, embedding: Embedder, kb_id: str, batch_size: int = BATCH_SIZE
    ) -> LoadSummary:
        """Embeds, encrypts and stores the chunks that a knowledge base does not have yet, batch by batch.

        What the knowledge base has is recognised before anything is embedded, so a load that was cut off, or a
        collection that has grown, costs only what is missing. Raises what `load_data_from_memory`, `dump_db` and the
        embedding raise; the batches before are stored then.
        """
        chunks = plain_chunks(collection, self._context)
        stored = await self._stored([chunk.name for chunk in chunks], kb_id)
        missing = [chunk for chunk in chunks if chunk.name not in stored]
        with progress_bar("Encrypting and storing", len(missing)) as advance:
            for start in range(0, len(missing), batch_size):
                batch = missing[start : start + batch_size]
                vectors = await embedding.bin_embed_many([chunk.content for chunk in batch])
                index, db = await asyncio.to_thread(self._encrypt, batch, vectors)
                await self._store(db, index, kb_id, False, advance)
        return LoadSummary(stored=len(missing), already_stored=len(chunks) - len(missing))

    async def superseded(self, collection: Collection, kb_id: str) -> list[int]:
        """The ids of the chunks of this context in a knowledge base that are not in the collection (any more).

        Reads the names of all of them.
        """
        names = {chunk.name for chunk in plain_chunks(collection, self._context)}

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
        await self._register()
        updates = [{"chunk_id": chunk_id, **chunk} for chunk_id, chunk in zip(chunk_ids, db, strict=True)]
        await self._integration.update_chunks(updates, index, kb_id, self._context.id)

    async def delete_chunks(self, chunk_ids: Sequence[int], kb_id: str) -> int:
        """Deletes chunks and returns how many there were; unknown ids are ignored."""
        return await self._integration.delete_chunks(chunk_ids, kb_id)

    async def _store(
        self,
        db: EncryptedChunks,
        index: Sequence[EncryptedIndex],
        kb_id: str,
        concurrent: bool,
        advance: Callable[[int], None],
    ) -> list[int]:
        stored = await self._stored([chunk["name"] for chunk in db], kb_id)
        missing = [i for i, chunk in enumerate(db) if chunk["name"] not in stored]
        advance(len(db) - len(missing))
        new_ids = await self._integration.store_db(
            [db[i] for i in missing],
            [index[i] for i in missing],
            kb_id,
            self._context.id,
            concurrent=concurrent,
            on_stored=advance,
        )
        stored |= dict(zip([db[i]["name"] for i in missing], new_ids, strict=True))
        return [stored[chunk["name"]] for chunk in db]

    async def _stored(self, names: list[str], kb_id: str) -> dict[str, int]:
        await self._register()
        found: dict[str, int] = {}
        for _, chunk_ids in await of_each(
            self._context, lambda context: self._integration.find_chunk_names(kb_id, context.id, names)
        ):
            found |= chunk_ids
        return found

    async def _register(self) -> None:
        if not self._registered:
            await self._integration.store_exec_context(self._context.public_data(), self._context.id)
            self._registered = True

    def _encrypt(
        self, chunks: Sequence[PlainChunk], vectors: Sequence[Any] | NDArray[np.uint8]
    ) -> tuple[EncryptedIndexBatch, EncryptedChunks]:
        index = self._context.homomorphic.encrypt_vec_batch(self._bits(vectors))
        db = [
            {
                "chunk_content": self._context.aes.encrypt(chunk.content, encrypted.nonce),
                "meta_data": chunk.meta_data,
                "name": chunk.name,
            }
            for chunk, encrypted in zip(chunks, index, strict=True)
        ]
        return index, db

    def _bits(self, vectors: Sequence[Any] | NDArray[np.uint8]) -> NDArray[np.uint8]:
        bits = np.empty((len(vectors), self._context.embed_len()), dtype=np.uint8)
        for position, vector in enumerate(vectors):
            try:
                bits[position] = as_bits(vector, self._context.embed_len())
            except InvalidVector as error:
                raise InvalidVector(f"vector {position}: {error}") from None
        return bits


def _close(vectors: Sequence[Any]) -> None:
    """Ends coroutines that nobody will await, so that Python does not warn about them."""
    for vector in vectors:
        if asyncio.iscoroutine(vector):
            vector.close()
