"""Made by `scripts/sync-twins` from `xtrace_sdk.x_vec.data_loaders.loader`: change that, and run the script."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from xtrace_core.wire import OnConflict
from xtrace_sdk.arguments import MetaFilter, Positive
from xtrace_sdk.service.counts import ChunkCount
from xtrace_sdk.sync._background import Twin, core_of, in_threads, run
from xtrace_sdk.sync._integration import XTraceIntegration
from xtrace_sdk.sync._vectors import Embedder
from xtrace_sdk.x_vec.chunks.private_metadata import PrivateMetaData
from xtrace_sdk.x_vec.chunks.vector_copies import CopyKind
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.data_loaders import loader as core
from xtrace_sdk.x_vec.data_loaders.batches import Chunks, Vectors
from xtrace_sdk.x_vec.data_loaders.encrypting import EncryptedChunks
from xtrace_sdk.x_vec.data_loaders.loading import BATCH_SIZE, LoadSummary
from xtrace_sdk.x_vec.inference.model import EmbeddingModel
from xtrace_sdk.x_vec.schemes.ciphertexts import EncryptedIndex, EncryptedIndexBatch


class DataLoader(Twin[core.DataLoader]):
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
        self._core = core.DataLoader(execution_context, core_of(integration), private_metadata, vector_copy=vector_copy)
        self._held = [integration]  # a twin that is dropped closes its connections

    def load_data_from_memory(
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
        return run(self._core.load_data_from_memory(chunks, vectors, disable_progress))

    def load_data_from_memory_batch(
        self, chunks: Sequence[Mapping[str, Any]], vectors: Any, disable_progress: bool = False
    ) -> tuple[EncryptedIndexBatch, EncryptedChunks]:
        """The same for vectors as one matrix `(n, embed_len)`, such as the result of `bin_embed_many(…)`.

        A list of awaitables, one for each chunk, is also accepted.
        """
        return run(self._core.load_data_from_memory_batch(chunks, vectors, disable_progress))

    def dump_db(
        self, db: EncryptedChunks, index: Sequence[EncryptedIndex], kb_id: str, concurrent: bool = False
    ) -> list[int]:
        """Stores encrypted chunks and returns their ids, in order; chunks that are already stored are not sent again.

        Each batch of 500 is stored completely or not at all, so an interrupted load resumes. With `concurrent`,
        several batches are sent at the same time. The service first gets the context's public part, never its secret.
        Raises what `XTraceIntegration` raises.
        """
        return run(self._core.dump_db(db, index, kb_id, concurrent))

    def load(
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

        If Ctrl-C ends the call, all acknowledged batches are stored, and possibly one in progress.
        """
        return run(
            self._core.load(
                collection,
                in_threads(embedding, Embedder),
                kb_id,
                batch_size,
                on_conflict=on_conflict,
                on_progress=on_progress,
                strict=strict,
            )
        )

    @property
    def last_load(self) -> LoadSummary | None:
        """The summary so far of this loader's latest load, even if it failed; None before the first."""
        return self._core.last_load

    def undo(self, summary: LoadSummary) -> int:
        """Deletes the chunks that a load inserted, even if it failed, and returns how many still existed.

        Replaced chunks cannot be restored and stay as the load left them: a warning (`NotUndone`) says how many. A
        batch in progress when a load was cancelled is not in its summary.
        """
        return run(self._core.undo(summary))

    def superseded(
        self, collection: Chunks | LoadSummary, kb_id: str, *, embedding: Embedder | EmbeddingModel | None = None
    ) -> list[int]:
        """Returns the ids of this context's chunks in a knowledge base that are not (or no longer) in the collection.

        Pass the summary of a finished load, or the collection itself with the model it was loaded with as `embedding`,
        unless the context has it. Reads the names of all stored chunks.

        Raises `InvalidArgument` for probable mistakes: the summary of an unfinished load, an exhausted iterator, and a
        collection of which nothing is stored, for which every chunk would be returned. To delete all chunks, use
        `delete_chunks_by_meta({}, kb_id)`.
        """
        return run(self._core.superseded(collection, kb_id, embedding=in_threads(embedding, Embedder)))

    def upsert_one(
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
        return run(self._core.upsert_one(chunk, vector, kb_id, chunk_id, on_conflict=on_conflict))

    def update_chunks(self, chunk_updates: Sequence[Mapping[str, Any]], vectors: Sequence[Any], kb_id: str) -> None:
        """Encrypts chunks and their vectors, and replaces stored chunks, including their metadata; all or none.

        Args:
            chunk_updates: chunks as for `load`, each with the `chunk_id` that it replaces.
            vectors: one for each chunk, as for `load_data_from_memory`.
            kb_id: the knowledge base.

        Raises `NotFound`, naming them, if some of the ids are unknown, `InvalidArgument`, `InvalidVector`,
        `InvalidMetaData`.
        """
        return run(self._core.update_chunks(chunk_updates, vectors, kb_id))

    def adopt_names(self, kb_id: str, copied_from: str) -> None:
        """Confirms that a knowledge base is a copy of another one, so that loads recognise its chunks.

        A copy made without keys under a new id, by an import or a restored backup, keeps the salt for names of the
        original. Without this call, loads into it raise `ForeignNameSalt`, because the service could have taken the
        salt from any knowledge base. Names stay equal in both.

        Raises `ForeignNameSalt` if the salt was not made for `copied_from` either, `InvalidArgument` if there is none.
        """
        return run(self._core.adopt_names(kb_id, copied_from))

    def delete_chunks(self, chunk_ids: Sequence[int], kb_id: str) -> ChunkCount:
        """Deletes chunks and returns their number; unknown ids are ignored."""
        return run(self._core.delete_chunks(chunk_ids, kb_id))

    def patch_chunks(self, patches: Sequence[Mapping[str, Any]], kb_id: str) -> None:
        """Changes metadata of chunks: `{"chunk_id": 7, "meta_data": {"tag1": "new", "tag2": None}}` each, in plaintext.

        None removes a field; other fields stay. Without private fields, this is `XTraceIntegration.patch_chunks`. For
        private fields the contents are fetched and encrypted again with the same vectors, 500 chunks in each
        transaction. Chunks that others change meanwhile are fetched again, never overwritten. The names by which loads
        recognise chunks stay.

        Raises `ChunksNotFound`, which names unknown ids, `ContentTampered`, `InvalidMetaData`, and `PartlyStored` if
        earlier batches were written; it is safe to repeat the call.
        """
        return run(self._core.patch_chunks(patches, kb_id))

    def patch_chunks_by_meta(
        self, meta_filter: MetaFilter, patch: Mapping[str, Any], kb_id: str, dry_run: bool = False
    ) -> ChunkCount:
        """Changes metadata of the chunks of the context that match the filter, and returns their number.

        Filter and patch are in plaintext; `{}` matches every chunk; with `dry_run` nothing is changed. Without private
        fields in the patch this is one transaction. With private fields it works as `patch_chunks`: after an error
        some chunks may be changed, and it is safe to repeat the call. Raises `InvalidFilter`, `NotOnPrivateField`,
        `InvalidMetaData`, `ContentTampered`.
        """
        return run(self._core.patch_chunks_by_meta(meta_filter, patch, kb_id, dry_run))

    def delete_chunks_by_meta(self, meta_filter: MetaFilter, kb_id: str, dry_run: bool = False) -> ChunkCount:
        """Deletes the chunks of the context that match the plaintext filter, and returns their number.

        `{}` matches every chunk; with `dry_run` nothing is deleted. Raises `InvalidFilter`, `NotOnPrivateField`.
        """
        return run(self._core.delete_chunks_by_meta(meta_filter, kb_id, dry_run))
