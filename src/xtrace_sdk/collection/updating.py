"""Updates single records: reads, changes and writes them, without overwriting what others wrote since."""

import asyncio
from types import EllipsisType
from typing import Any, Final

from xtrace_core.secrecy import Secretive
from xtrace_sdk.collection.contents import EncryptedRecords, ReadRecord, RecordCipher
from xtrace_sdk.collection.embedding import RecordEmbedder
from xtrace_sdk.collection.filterable import FilterableFields
from xtrace_sdk.collection.metadata import as_text, checked
from xtrace_sdk.collection.own_writes import OwnWrites
from xtrace_sdk.collection.record import CheckedRecord, Record, checked_text
from xtrace_sdk.collection.storage import RecordStore
from xtrace_sdk.errors import ChunksChanged, ChunksNotFound, ContentTampered, RecordNotFound
from xtrace_sdk.service.integration import StoredChunk, XTraceIntegration
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.schemes.ciphertexts import EncryptedIndexBatch

ATTEMPTS: Final = 20
"""How often a record is read again if others keep changing it."""

Change = Any
"""The new value of a field; `...` keeps the old one."""


class RecordUpdater(Secretive):
    """Updates records of one namespace."""

    __slots__ = ("_cipher", "_context", "_embedder", "_own_writes", "_store", "_xtrace")

    def __init__(
        self,
        xtrace: XTraceIntegration,
        context: ExecutionContext,
        store: RecordStore,
        cipher: RecordCipher,
        embedder: RecordEmbedder,
        own_writes: OwnWrites,
    ) -> None:
        self._xtrace = xtrace
        self._context = context
        self._store = store
        self._cipher = cipher
        self._embedder = embedder
        self._own_writes = own_writes

    async def update(self, record_id: str, text: Change, metadata: Change, vector: Change) -> Record:
        """See `Collection.update`."""
        more = () if self._context.predecessor is None else ("index",)
        for attempt in range(1, ATTEMPTS + 1):
            found = await self._store.fetched([record_id], more)
            if record_id not in found:
                raise RecordNotFound("the collection does not have a record with this id: upsert stores a new one")
            fields = await self._store.fields_to_write()
            chunk, context, stored = found[record_id]
            changed = _changed(stored, text, metadata, vector)
            try:
                with self._own_writes.writing():
                    await self._write_over(chunk, context, stored, changed, fields)
                    self._own_writes.note([chunk["chunk_id"]])
            except (ChunksChanged, ChunksNotFound):
                if attempt == ATTEMPTS:
                    raise
            else:
                return Record(record_id, changed.text, changed.metadata, created_at=stored.created_at)
        raise AssertionError("no attempt was made")

    async def _write_over(
        self,
        chunk: StoredChunk,
        context: ExecutionContext,
        stored: ReadRecord,
        changed: CheckedRecord,
        fields: FilterableFields,
    ) -> None:
        """Replaces the stored record, unless others have changed it since."""
        if changed.vector is ... and context is self._context:
            return await self._patch(chunk, stored, changed, fields)
        if changed.vector is ...:
            # It is under the predecessor, so it moves, with the same vector.
            index, db = await asyncio.to_thread(self._moved, chunk, context, stored, changed, fields)
        else:
            self._embedder.check([changed])
            vectors = await self._embedder.vectors([changed])
            index, db = await asyncio.to_thread(self._cipher.encrypt, [changed], vectors, fields)
        db[0]["if_updated_at"] = chunk["updated_at"]
        return await self._store.chunks.replace([chunk["chunk_id"]], db, index, self._store.kb_id)

    async def _patch(
        self, chunk: StoredChunk, stored: ReadRecord, changed: CheckedRecord, fields: FilterableFields
    ) -> None:
        """Writes everything except the vector."""

        def patch() -> dict[str, Any]:
            content, meta_data = self._content(stored, changed, fields)
            return {
                "chunk_id": chunk["chunk_id"],
                "chunk_content": self._context.aes.encrypt(content, chunk.get("nonce") or b""),
                "meta_data": {"tag2": None, "facets": None} | meta_data,
                "if_updated_at": chunk["updated_at"],
            }

        patches = [await asyncio.to_thread(patch)]
        await self._xtrace.patch_chunks(self._store.kb_id, self._context.id, patches)

    def _moved(
        self,
        chunk: StoredChunk,
        context: ExecutionContext,
        stored: ReadRecord,
        changed: CheckedRecord,
        fields: FilterableFields,
    ) -> tuple[EncryptedIndexBatch, EncryptedRecords]:
        bits, valid = context.homomorphic.decrypt_vec_batch([chunk["index"]], [chunk.get("nonce")])
        if not valid.all() or not context.accepted.chunks(self._store.kb_id, [chunk]).all():
            raise ContentTampered(f"the vector of chunk {chunk['chunk_id']} is not valid, so it was not changed")
        index = self._context.homomorphic.encrypt_vec_batch(bits)
        content, meta_data = self._content(stored, changed, fields)
        sealed = self._context.aes.encrypt(content, index[0].nonce)
        return index, [
            {"chunk_content": sealed, "meta_data": meta_data, "base_name": self._cipher.base_name(changed.id)}
        ]

    def _content(
        self, stored: ReadRecord, changed: CheckedRecord, fields: FilterableFields
    ) -> tuple[bytes, dict[str, Any]]:
        """Returns the content of the changed record with its existing vector."""
        return self._cipher.content(
            changed,
            stored.content.vector_copy,
            fields,
            base_name=self._cipher.base_name(changed.id),
            has_vector=stored.has_vector,
        )


def _changed(stored: ReadRecord, text: Change, metadata: Change, vector: Change) -> CheckedRecord:
    """Returns the stored record with the changes; its vector is `...` if it stays."""
    new_text = stored.text if isinstance(text, EllipsisType) else checked_text(text)
    new_metadata = stored.metadata if isinstance(metadata, EllipsisType) else checked(metadata)
    if isinstance(vector, EllipsisType) and new_text != stored.text:
        vector = None  # the new text will be embedded
    return CheckedRecord(0, stored.id, new_text, new_metadata, as_text(new_metadata), vector)
