"""`DataLoader`: encrypts texts and vectors, and stores them on the service."""

import asyncio
import warnings
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

from xtrace_core.secrecy import Secretive
from xtrace_core.wire import OnConflict
from xtrace_sdk.arguments import MetaFilter, Positive, checked_calls
from xtrace_sdk.errors import InvalidArgument
from xtrace_sdk.notices import NotUndone
from xtrace_sdk.progress import progress_bar
from xtrace_sdk.service.counts import ChunkCount
from xtrace_sdk.service.integration import XTraceIntegration
from xtrace_sdk.x_vec.chunks.private_metadata import PrivateMetaData, check_private
from xtrace_sdk.x_vec.chunks.vector_copies import CopyKind
from xtrace_sdk.x_vec.chunks.vectors import Embedder, resolve, resolve_all
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.contexts.lineage import of_each
from xtrace_sdk.x_vec.data_loaders.batches import Chunks, Vectors, batches, check_same_length, close, length_of
from xtrace_sdk.x_vec.data_loaders.chunks import ChunkReader, chunk_id_of, plain_chunks
from xtrace_sdk.x_vec.data_loaders.encrypting import ChunkEncryptor, EncryptedChunks, base_name
from xtrace_sdk.x_vec.data_loaders.loading import BATCH_SIZE, Load, LoadSummary, check_is_whole
from xtrace_sdk.x_vec.data_loaders.patching import Patching
from xtrace_sdk.x_vec.data_loaders.replacing import Replacing
from xtrace_sdk.x_vec.data_loaders.sealing import SealAtEnd
from xtrace_sdk.x_vec.data_loaders.storing import ChunkStore
from xtrace_sdk.x_vec.inference.embedding import embedding_for
from xtrace_sdk.x_vec.inference.model import EmbeddingModel, agreed_model
from xtrace_sdk.x_vec.schemes.ciphertexts import EncryptedIndex, EncryptedIndexBatch
from xtrace_sdk.x_vec.stored.names import adopt_names, stored_names

__all__ = ["DataLoader", "LoadSummary"]


@checked_calls
class DataLoader(Secretive):
    """Encrypts chunks and stores them in a knowledge base.

    The service gets ciphertexts, plaintext metadata except for the context's private fields, and a pseudonym for each
    chunk's name. By these names a repeated load recognises stored chunks, and stores nothing twice. The same chunk has
    a different name in each knowledge base, because of a salt that the service stores. A call that derives names
    raises `ForeignNameSalt` if the salt was not made for the knowledge base.
    """

    def __init__(
        self,
        execution_context: ExecutionContext,
        integration: XTraceIntegration,
        private_metadata: PrivateMetaData | None = None,
        *,
        vector_copy: CopyKind | None = None,
    ) -> None:
        """`private_metadata`, if passed, must be the same as for `ExecutionContext.create`.

        `vector_copy` stores a copy of each float vector inside its chunk's encrypted content, for rescoring:
        `Retriever.search(…, rescore=4)` ranks by them. `"int8"` adds one byte per dimension to the content,
        `"float32"` four; recall hardly differs (docs/recall.md). Vectors must then be floats. Chunks with a copy have
        different names: loading a collection again with copies stores it again, and `superseded` returns the chunks to
        delete.

        Raises `InvalidArgument` if the private fields are not the context's, and for an unknown kind of copy.
        """
        check_private(execution_context, private_metadata)
        self._context = execution_context
        self._integration = integration
        for one in execution_context.lineage:
            integration.declare_private(one.id, one.private_metadata)
        self._encryptor = ChunkEncryptor(execution_context, vector_copy)
        self._store = ChunkStore(execution_context, integration)
        self._sealing = SealAtEnd(execution_context, integration)
        self._last: Load | None = None

    async def load_data_from_memory(
        self, chunks: Sequence[Mapping[str, Any]], vectors: Sequence[Any], disable_progress: bool = False
    ) -> tuple[EncryptedIndexBatch, EncryptedChunks]:
        """Returns `(index, db)`: the encrypted vectors and the encrypted chunks, in the order of the chunks.

        Args:
            chunks: `{"chunk_content": str, "meta_data": {…}}` each; a `chunk_id` is ignored with a warning.
            vectors: one for each chunk: bits, floats (only their signs count) or awaitables of either; with
                `vector_copy` floats or awaitables of them.
            disable_progress: ignored; this call does not show progress.

        Nothing is sent. Raises `InvalidArgument`, `InvalidVector`, `InvalidMetaData`.
        """
        check_same_length(chunks, vectors)
        try:
            plain = plain_chunks(chunks, self._context, self._encryptor.vector_copy)
        except BaseException:
            close(vectors)
            raise
        return await asyncio.to_thread(self._encryptor.encrypt, plain, await resolve_all(vectors))

    async def load_data_from_memory_batch(
        self, chunks: Sequence[Mapping[str, Any]], vectors: Any, disable_progress: bool = False
    ) -> tuple[EncryptedIndexBatch, EncryptedChunks]:
        """The same for vectors as one matrix `(n, embed_len)`, or an awaitable of one, such as `bin_embed_many(…)`.

        A list of awaitables, one for each chunk, is also accepted.
        """
        matrix = await resolve(vectors)
        return await self.load_data_from_memory(chunks, list(matrix), disable_progress)

    async def dump_db(
        self, db: EncryptedChunks, index: Sequence[EncryptedIndex], kb_id: str, concurrent: bool = False
    ) -> list[int]:
        """Stores encrypted chunks and returns their ids, in order; chunks that are already stored are not sent again.

        Each batch of 500 is stored completely or not at all, so an interrupted load resumes. With `concurrent`,
        several batches are sent at the same time. The service first gets the context's public part, never its secret.
        Raises what `XTraceIntegration` raises.
        """
        if len(db) != len(index):
            raise InvalidArgument(f"got {len(db)} chunks but {len(index)} indexes; the counts must match")
        with progress_bar("Storing", len(db)) as advance:
            ids = await self._store.insert_missing(db, index, kb_id, lambda done: advance(len(done)), concurrent)
        await self._sealing.seal(kb_id, len(ids))
        return ids

    async def load(
        self,
        collection: Chunks,
        embedding: Embedder | Vectors | None,
        kb_id: str,
        batch_size: Positive = BATCH_SIZE,
        *,
        on_conflict: OnConflict = "skip",
        on_progress: Callable[[LoadSummary], object] | None = None,
        strict: bool = False,
    ) -> LoadSummary:
        """Embeds, encrypts and stores the chunks that the knowledge base does not have yet.

        Args:
            collection: chunks as `{"chunk_content": str, "meta_data": {…}}`: in memory, or from a generator (which
                runs in a thread) or an asynchronous generator.
            embedding: the model, None for the context's, or the vectors themselves, one for each chunk in the same
                order. If both have a length, the lengths are compared before anything is stored.
            kb_id: the knowledge base.
            batch_size: chunks that are processed together; fewer if they are long.
            on_conflict: what to do if a chunk with the same text and metadata exists. `"skip"` keeps the stored chunk
                at no further cost. `"replace"` embeds everything, fetches and decrypts the stored chunks, and writes
                those that differ. `"fail"` raises `NamesTaken` and stores nothing of the batch.
            on_progress: called with the summary so far whenever more is stored.
            strict: raises an error for the first text that cannot be loaded.

        Blank texts, texts that are not valid Unicode, and texts that the model rejects (`TextRefused`) are skipped:
        the summary lists their positions and the reasons, and a warning (`PassedOver`) is emitted.

        Reading, embedding, encrypting and storing overlap. Only a few batches, and the name of every chunk, are in
        memory. Each batch is compared with the knowledge base before it is embedded, so resuming a load, or loading a
        collection that has grown, costs only what is missing. The name of a chunk depends on its model, if known:
        chunks loaded with a different model are stored again, and `superseded` returns the old ones.

        Raises `OtherModel` if the context has a different model, and what `load_data_from_memory`, `dump_db`, the
        collection and the embedding raise, with a note of what is stored: all batches before the one that failed.

        Under a context of the scheme `lattice`, chunks are sealed into blocks at the end if there are enough
        (docs/schemes.md). If that fails, a warning (`NotSealed`) is emitted.

        If the call is cancelled, all acknowledged batches are stored, and possibly one in progress.
        """
        model = agreed_model(self._context.embedding_model, embedding)
        if embedding is None:
            embedding = embedding_for(self._context.embedding_model)
        with progress_bar("Loading", length_of(collection)) as advance:
            shown = 0

            def progress(summary: LoadSummary) -> None:
                nonlocal shown
                done = summary.stored + summary.known + len(summary.passed_over)
                advance(done - shown)
                shown = done
                if on_progress is not None:
                    on_progress(summary)

            reader = self._reader(model)
            encryptor = ChunkEncryptor(self._context, self._encryptor.vector_copy, model)
            load = self._last = Load(
                reader, encryptor, self._store, self._integration, kb_id, progress, on_conflict, strict
            )
            summary = await load.run(collection, embedding, batch_size)
        if summary.stored:
            await self._sealing.seal(kb_id, summary.stored, worthwhile=1)
        return summary

    @property
    def last_load(self) -> LoadSummary | None:
        """The summary so far of this loader's latest load, even if it failed; None before the first."""
        return None if self._last is None else self._last.done

    async def undo(self, summary: LoadSummary) -> int:
        """Deletes the chunks that a load inserted, even if it failed, and returns how many still existed.

        Replaced chunks cannot be restored and stay as the load left them: a warning (`NotUndone`) says how many. A
        batch in progress when a load was cancelled is not in its summary.
        """
        if summary.replaced:
            warnings.warn(
                f"{summary.replaced} chunks were replaced by the load and cannot be restored: they stay as the load "
                "left them",
                NotUndone,
                stacklevel=2,
            )
        return await self.delete_chunks(list(summary.inserted_ids), summary.kb_id) if summary.inserted_ids else 0

    async def superseded(
        self, collection: Chunks | LoadSummary, kb_id: str, *, embedding: Embedder | EmbeddingModel | None = None
    ) -> list[int]:
        """Returns the ids of this context's chunks in a knowledge base that are not (or no longer) in the collection.

        Pass the summary of a finished load, or the collection itself with the model it was loaded with as `embedding`,
        unless the context has it. Reads the names of all stored chunks.

        Raises `InvalidArgument` for probable mistakes: the summary of an unfinished load, an exhausted iterator, and a
        collection of which nothing is stored, for which every chunk would be returned. To delete all chunks, use
        `delete_chunks_by_meta({}, kb_id)`.
        """
        model = agreed_model(self._context.embedding_model, embedding)
        base_names = (
            collection.base_names if isinstance(collection, LoadSummary) else await self._read(collection, model)
        )
        check_is_whole(collection, base_names)
        known = await stored_names(self._context, self._integration, kb_id)
        names = {} if known is None else await asyncio.to_thread(known.by_name, base_names)

        async def stored(context: ExecutionContext) -> list[tuple[int, bool]]:
            """Returns the ids of chunks, and whether each is in the collection."""
            found = self._integration.iter_meta_search(kb_id, {}, context.id, projection=["name"])
            return [(chunk["chunk_id"], chunk.get("name") in names) async for chunk in found]

        chunks = [chunk for _, found in await of_each(self._context, stored) for chunk in found]
        if chunks and not any(is_current for _, is_current in chunks):
            raise InvalidArgument(
                f"the collection is not stored, so all {len(chunks)} chunks would be outdated: load it first, or "
                "check the collection and the model; delete_chunks_by_meta deletes all chunks"
            )
        return sorted({chunk_id for chunk_id, is_current in chunks if not is_current})

    async def upsert_one(
        self,
        chunk: Mapping[str, Any],
        vector: Any,
        kb_id: str,
        chunk_id: int | None = None,
        *,
        on_conflict: OnConflict = "replace",
    ) -> int:
        """Stores one chunk and returns its id. Replaces the chunk `chunk_id` if passed, else follows `on_conflict`.

        If a chunk with the same text and metadata exists, it gets the new vector if that differs (`"replace"`), is
        kept (`"skip"`), or the call raises `NamesTaken` (`"fail"`). Raises `NotFound` for an unknown `chunk_id`.
        """
        if chunk_id is None and on_conflict == "replace":
            plain = plain_chunks([chunk], self._context, self._encryptor.vector_copy)
            vectors = await resolve_all([vector])
            replacing = Replacing(plain, vectors, self._encryptor, self._store, self._integration, kb_id)
            return (await replacing.write())[0]
        index, db = await self.load_data_from_memory([chunk], [vector])
        if chunk_id is not None:
            await self._store.replace([chunk_id], db, index, kb_id)
            return chunk_id
        if on_conflict == "skip":
            return (await self.dump_db(db, index, kb_id))[0]
        await self._store.check_new([base_name(one) for one in db], kb_id)
        return (await self._store.insert(db, index, kb_id, on_conflict=on_conflict))[0]

    async def update_chunks(
        self, chunk_updates: Sequence[Mapping[str, Any]], vectors: Sequence[Any], kb_id: str
    ) -> None:
        """Encrypts chunks and their vectors, and replaces stored chunks, including their metadata; all or none.

        Args:
            chunk_updates: chunks as for `load`, each with the `chunk_id` that it replaces.
            vectors: one for each chunk, as for `load_data_from_memory`.
            kb_id: the knowledge base.

        Raises `NotFound`, naming them, if some of the ids are unknown, `InvalidArgument`, `InvalidVector`,
        `InvalidMetaData`.
        """
        chunk_ids = [chunk_id_of(update) for update in chunk_updates]
        chunks = [{key: update[key] for key in update if key != "chunk_id"} for update in chunk_updates]
        index, db = await self.load_data_from_memory(chunks, vectors)
        await self._store.replace(chunk_ids, db, index, kb_id)

    async def adopt_names(self, kb_id: str, copied_from: str) -> None:
        """Confirms that a knowledge base is a copy of another one, so that loads recognise its chunks.

        A copy made without keys under a new id, by an import or a restored backup, keeps the salt for names of the
        original. Without this call, loads into it raise `ForeignNameSalt`, because the service could have taken the
        salt from any knowledge base. Names stay equal in both.

        Raises `ForeignNameSalt` if the salt was not made for `copied_from` either, `InvalidArgument` if there is none.
        """
        await adopt_names(self._context, self._integration, kb_id, copied_from)

    async def delete_chunks(self, chunk_ids: Sequence[int], kb_id: str) -> ChunkCount:
        """Deletes chunks and returns their number; unknown ids are ignored."""
        return await self._integration.delete_chunks(chunk_ids, kb_id)

    # By metadata, in plaintext

    async def patch_chunks(self, patches: Sequence[Mapping[str, Any]], kb_id: str) -> None:
        """Changes metadata of chunks: `{"chunk_id": 7, "meta_data": {"tag1": "new", "tag2": None}}` each, in plaintext.

        None removes a field; other fields stay. Without private fields, this is `XTraceIntegration.patch_chunks`. For
        private fields the contents are fetched and encrypted again with the same vectors, 500 chunks in each
        transaction. Chunks that others change meanwhile are fetched again, never overwritten. The names by which loads
        recognise chunks stay.

        Raises `ChunksNotFound`, which names unknown ids, `ContentTampered`, `InvalidMetaData`, and `PartlyStored` if
        earlier batches were written; it is safe to repeat the call.
        """
        await Patching(self._context, self._integration, kb_id).patch(patches)

    async def patch_chunks_by_meta(
        self, meta_filter: MetaFilter, patch: Mapping[str, Any], kb_id: str, dry_run: bool = False
    ) -> ChunkCount:
        """Changes metadata of the chunks of the context that match the filter, and returns their number.

        Filter and patch are in plaintext; `{}` matches every chunk; with `dry_run` nothing is changed. Without private
        fields in the patch this is one transaction. With private fields it works as `patch_chunks`: after an error
        some chunks may be changed, and it is safe to repeat the call. Raises `InvalidFilter`, `NotOnPrivateField`,
        `InvalidMetaData`, `ContentTampered`.
        """
        return await Patching(self._context, self._integration, kb_id).patch_matching(meta_filter, patch, dry_run)

    async def delete_chunks_by_meta(self, meta_filter: MetaFilter, kb_id: str, dry_run: bool = False) -> ChunkCount:
        """Deletes the chunks of the context that match the plaintext filter, and returns their number.

        `{}` matches every chunk; with `dry_run` nothing is deleted. Raises `InvalidFilter`, `NotOnPrivateField`.
        """
        return await Patching(self._context, self._integration, kb_id).delete_matching(meta_filter, dry_run)

    def _reader(self, model: EmbeddingModel | None) -> ChunkReader:
        return ChunkReader(self._context, self._encryptor.vector_copy, model)

    async def _read(self, collection: Chunks, model: EmbeddingModel | None) -> Set[str]:
        """Returns the base names of a collection."""
        reader = self._reader(model)
        async for _ in batches(collection, reader, BATCH_SIZE):
            pass
        return reader.base_names
