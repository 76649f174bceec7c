"""Stores chunks and replaces those stored under the same names; writes only differences."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np

from xtrace_core.metadata import parse_meta_data
from xtrace_core.secrecy import Secretive
from xtrace_core.wire import Outcome
from xtrace_sdk.errors import ChunksNotFound
from xtrace_sdk.service.integration import InsertedIds, StoredChunk, XTraceIntegration
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.data_loaders.chunks import PlainChunk
from xtrace_sdk.x_vec.data_loaders.encrypting import ChunkEncryptor, EmbeddedVectors, EncryptedChunks
from xtrace_sdk.x_vec.data_loaders.storing import ChunkStore, OnStored, Stored
from xtrace_sdk.x_vec.schemes.ciphertexts import EncryptedIndexBatch
from xtrace_sdk.x_vec.stored.chunks import READ_FIELDS, read_chunks

ATTEMPTS: Final = 5
"""How often chunks are looked up again if others deleted them before they could be replaced."""


class Replacing(Secretive):
    """Chunks with distinct names, to be stored in one knowledge base."""

    __slots__ = ("_chunks", "_encryptor", "_integration", "_kb_id", "_store", "_vectors")

    def __init__(
        self,
        chunks: Sequence[PlainChunk],
        vectors: EmbeddedVectors,
        encryptor: ChunkEncryptor,
        store: ChunkStore,
        integration: XTraceIntegration,
        kb_id: str,
    ) -> None:
        self._chunks = chunks
        self._vectors = vectors
        self._encryptor = encryptor
        self._store = store
        self._integration = integration
        self._kb_id = kb_id

    async def write(self, on_stored: OnStored | None = None) -> InsertedIds:
        """Stores the chunks, and returns their ids and what was done with each.

        A stored chunk is fetched and decrypted, and replaced only if its text, vector or metadata differ or cannot be
        read. Raises what `store_db` and `update_chunks` raise.
        """
        for attempt in range(1, ATTEMPTS + 1):
            stored = await self._store.located([chunk.base_name for chunk in self._chunks], self._kb_id)
            same = await self._same(stored)
            try:
                await self._replace(stored, same)
            except ChunksNotFound:
                if attempt == ATTEMPTS:
                    raise
            else:
                break
        before: list[tuple[str, Outcome]] = [(name, "known" if name in same else "replaced") for name in stored]
        if on_stored is not None:
            on_stored(InsertedIds([stored[name].chunk_id for name, _ in before], [outcome for _, outcome in before]))
        done = {name: (stored[name].chunk_id, outcome) for name, outcome in before}
        done |= await self._insert(stored, on_stored)
        held = [done[chunk.base_name] for chunk in self._chunks]
        return InsertedIds([chunk_id for chunk_id, _ in held], [outcome for _, outcome in held])

    async def _same(self, stored: Mapping[str, Stored]) -> set[str]:
        """Returns the base names of chunks that are already up to date."""
        positions = {chunk.base_name: i for i, chunk in enumerate(self._chunks)}
        same: set[str] = set()
        for context in {one.context for one in stored.values()}:
            here = {one.chunk_id: positions[name] for name, one in stored.items() if one.context == context}
            fetched = await self._integration.get_chunk_by_id(list(here), self._kb_id, (*READ_FIELDS, "meta_data"))
            if fetched:
                unchanged = [here[chunk["chunk_id"]] for chunk in fetched]
                same |= await asyncio.to_thread(self._unchanged, context, fetched, unchanged)
        return same

    def _unchanged(
        self, context: ExecutionContext, fetched: Sequence[StoredChunk], positions: Sequence[int]
    ) -> set[str]:
        wanted = self._encryptor.plain(*self._chosen(positions))
        held = read_chunks(context, fetched)
        return {
            self._chunks[position].base_name
            for i, position in enumerate(positions)
            if held.valid[i]
            and held.contents[i] == wanted.contents[i]
            and np.array_equal(held.vectors[i], wanted.vectors[i])
            and parse_meta_data(fetched[i]["meta_data"]) == parse_meta_data(wanted.meta_data[i])
        }

    async def _replace(self, stored: Mapping[str, Stored], same: set[str]) -> None:
        """Replaces the chunks that differ. If it raises `ChunksNotFound`, nothing was written."""
        old = [i for i, chunk in enumerate(self._chunks) if chunk.base_name in stored.keys() - same]
        if old:
            index, db = await self._encrypted(old)
            ids = [stored[self._chunks[i].base_name].chunk_id for i in old]
            await self._store.replace(ids, db, index, self._kb_id)

    async def _insert(self, stored: Mapping[str, Stored], on_stored: OnStored | None) -> dict[str, tuple[int, Outcome]]:
        """Stores missing chunks, and replaces those that another client stores meanwhile."""
        new = [i for i, chunk in enumerate(self._chunks) if chunk.base_name not in stored]
        if not new:
            return {}
        index, db = await self._encrypted(new)
        ids = await self._store.insert(db, index, self._kb_id, on_stored, on_conflict="replace")
        names = [self._chunks[i].base_name for i in new]
        return dict(zip(names, zip(ids, ids.outcomes, strict=True), strict=True))

    async def _encrypted(self, positions: Iterable[int]) -> tuple[EncryptedIndexBatch, EncryptedChunks]:
        return await asyncio.to_thread(self._encryptor.encrypt, *self._chosen(positions))

    def _chosen(self, positions: Iterable[int]) -> tuple[list[PlainChunk], EmbeddedVectors]:
        chosen = list(positions)
        return [self._chunks[i] for i in chosen], [self._vectors[i] for i in chosen]
