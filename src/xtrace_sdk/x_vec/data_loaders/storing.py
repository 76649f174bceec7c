"""Finds which encrypted chunks a knowledge base already has, and stores the others."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from xtrace_core.secrecy import Secretive
from xtrace_core.wire import OnConflict
from xtrace_sdk.errors import NamesTaken
from xtrace_sdk.service.integration import DEFAULT_BATCH_SIZE, InsertedIds, XTraceIntegration
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.contexts.lineage import of_each
from xtrace_sdk.x_vec.contexts.names import ChunkNames
from xtrace_sdk.x_vec.data_loaders.encrypting import EncryptedChunks, base_name, named
from xtrace_sdk.x_vec.schemes.ciphertexts import EncryptedIndex
from xtrace_sdk.x_vec.stored.names import agreed_names

OnStored = Callable[[InsertedIds], object]
"""Called after each stored batch with the ids of its chunks and what was done with them."""


class Stored(NamedTuple):
    """The place of a stored chunk."""

    context: ExecutionContext
    """The store's own context, or its predecessor."""
    chunk_id: int


class ChunkStore(Secretive):
    """Stores the encrypted chunks of one context, in any knowledge base."""

    __slots__ = ("_agreed", "_context", "_integration", "_is_registered")

    def __init__(self, context: ExecutionContext, integration: XTraceIntegration) -> None:
        self._context = context
        self._integration = integration
        self._is_registered = False
        self._agreed: dict[str, ChunkNames] = {}
        """The names of chunks, by knowledge base."""

    async def stored(self, base_names: Iterable[str], kb_id: str) -> dict[str, int]:
        """Returns the ids of the stored chunks with these base names, by base name."""
        return {name: one.chunk_id for name, one in (await self.located(base_names, kb_id)).items()}

    async def located(self, base_names: Iterable[str], kb_id: str) -> dict[str, Stored]:
        """Returns the same, with the context of each chunk."""
        by_name = await asyncio.to_thread((await self.names(kb_id)).by_name, base_names)
        names = list(by_name)
        found: dict[str, Stored] = {}
        for context, chunk_ids in await of_each(
            self._context, lambda context: self._integration.find_chunk_names(kb_id, context.id, names)
        ):
            listed = context.accepted.ids(kb_id, list(chunk_ids.values())).tolist()
            found |= {
                by_name[name]: Stored(context, chunk_id)
                for (name, chunk_id), counts in zip(chunk_ids.items(), listed, strict=True)
                if counts
            }
        return found

    async def check_new(self, base_names: Sequence[str], kb_id: str) -> None:
        """Raises `NamesTaken` if a chunk with one of these base names is stored."""
        if stored := await self.located(base_names, kb_id):
            raise NamesTaken(
                f"{len(stored)} of {len(base_names)} chunks are stored already, and on_conflict is fail, so nothing "
                "was stored; use skip to store only the others",
                status=409,
                code=NamesTaken.codes[0],
            )

    async def insert(
        self,
        db: EncryptedChunks,
        index: Sequence[EncryptedIndex],
        kb_id: str,
        on_stored: OnStored | None = None,
        *,
        concurrent: bool = False,
        batch_size: int = DEFAULT_BATCH_SIZE,
        on_conflict: OnConflict = "skip",
    ) -> InsertedIds:
        """Stores chunks with distinct names that were missing when looked up, and returns their ids.

        `on_conflict` decides about one that another client has stored since. Raises what `store_db` raises.
        """
        return await self._integration.store_db(
            await asyncio.to_thread(named, db, await self.names(kb_id)),
            index,
            kb_id,
            self._context.id,
            concurrent=concurrent,
            batch_size=batch_size,
            on_stored=on_stored,
            on_conflict=on_conflict,
        )

    async def insert_named(
        self,
        db: EncryptedChunks,
        index: Sequence[EncryptedIndex],
        kb_id: str,
        on_stored: OnStored,
        on_conflict: OnConflict,
    ) -> None:
        """Does the same with chunks from `named`, as one batch."""
        await self._integration.store_db(
            db, index, kb_id, self._context.id, batch_size=len(db), on_stored=on_stored, on_conflict=on_conflict
        )

    async def insert_missing(
        self, db: EncryptedChunks, index: Sequence[EncryptedIndex], kb_id: str, on_stored: OnStored, concurrent: bool
    ) -> list[int]:
        """Returns the ids of all chunks, in order; does not send stored ones again."""
        base_names = [base_name(chunk) for chunk in db]
        ids = await self.stored(base_names, kb_id)
        firsts = {one: i for i, one in reversed(list(enumerate(base_names)))}
        missing = sorted(i for one, i in firsts.items() if one not in ids)
        present = [ids[one] for one in base_names if one in ids]
        on_stored(InsertedIds(present, ["known"] * len(present)))
        new_ids = await self.insert(
            [db[i] for i in missing], [index[i] for i in missing], kb_id, on_stored, concurrent=concurrent
        )
        ids |= dict(zip([base_names[i] for i in missing], new_ids, strict=True))
        return [ids[one] for one in base_names]

    async def replace(
        self, chunk_ids: Sequence[int], db: EncryptedChunks, index: Sequence[EncryptedIndex], kb_id: str
    ) -> None:
        """Replaces stored chunks: all or none. Raises `NotFound`, which names unknown ids."""
        chunks = await asyncio.to_thread(named, db, await self.names(kb_id))
        updates = [{"chunk_id": chunk_id, **chunk} for chunk_id, chunk in zip(chunk_ids, chunks, strict=True)]
        await self._integration.update_chunks(index, updates, self._context.id, kb_id)

    async def names(self, kb_id: str) -> ChunkNames:
        """Returns the names of chunks in a knowledge base; asks the service once."""
        await self._register()
        if kb_id not in self._agreed:
            self._agreed[kb_id] = await agreed_names(self._context, self._integration, kb_id)
        return self._agreed[kb_id]

    async def _register(self) -> None:
        """Ensures that the service has the context's public part."""
        if not self._is_registered:
            await self._integration.store_exec_context(self._context.public_data(), self._context.id)
            self._is_registered = True
