"""The calls that store, read, change and delete chunks."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

from xtrace_core import wire
from xtrace_sdk.arguments import MetaFilter, Positive, checked_calls
from xtrace_sdk.errors import (
    AnswerTooLarge,
    ContextNotFound,
    InvalidAnswer,
    InvalidArgument,
    PartlyStored,
    PermissionDenied,
    XTraceError,
)
from xtrace_sdk.limits import MAX_COUNT_BYTES
from xtrace_sdk.service import payloads
from xtrace_sdk.service.contexts import StoredContexts
from xtrace_sdk.service.contract import Parameters
from xtrace_sdk.service.counts import ChunkCount
from xtrace_sdk.service.private_fields import PrivacyChecked

T = TypeVar("T")

DEFAULT_BATCH_SIZE: Final = 500
"""Chunks in one batch of `store_db`."""

StoredChunk = dict[str, Any]
"""A stored chunk with `chunk_id` and the requested fields of `wire.Chunk`; binary fields are bytes."""

_IDS_PER_CALL: Final = 250
"""The number of ids in a URL: about 6 KB, which every proxy accepts."""
_NAMES_PER_CALL: Final = 1000
RESULTS_PER_PAGE: Final = 500
_ALWAYS_THERE: Final = frozenset(("chunk_content", "index", "meta_data", "updated_at"))
"""Fields that every chunk has."""


class InsertedIds(list[int]):
    """The ids of chunks after an insertion, in the order of the input."""

    def __init__(self, chunk_ids: Iterable[int], outcomes: Iterable[wire.Outcome]) -> None:
        super().__init__(chunk_ids)
        self.outcomes: list[wire.Outcome] = list(outcomes)
        """For each chunk `"inserted"`, or with `on_conflict` possibly `"replaced"` or `"known"`."""


@checked_calls
class StoredChunks(StoredContexts, PrivacyChecked):
    """The calls of `XTraceIntegration` for chunks. Each call may raise `ServerError` and `NetworkError`."""

    _native: dict[str, bool]
    """Whether contexts that were looked up are native."""

    # Storing

    async def insert_chunks(
        self,
        kb_id: str,
        chunks: Sequence[Mapping[str, Any]],
        context_id: str,
        *,
        index: Sequence[Any] | None = None,
        on_conflict: wire.OnConflict | None = None,
    ) -> InsertedIds:
        """Stores encrypted chunks and returns their ids, in order. All or none are stored, even with retries.

        Args:
            kb_id: the knowledge base.
            chunks: `{"chunk_content": str, "index": …, "meta_data": {…}, "name": str}` each; the last two are optional.
            context_id: the execution context under which they are encrypted; the service must have it.
            index: the encrypted vector of each chunk, instead of an `index` in each chunk: ciphertexts as integers,
                little-endian bytes or their base64, with an attribute `nonce`.
            on_conflict: makes names unique in the knowledge base and context, among chunks stored in this way, for any
                number of concurrent clients. Names are then required and must all differ. If a name exists, the chunk
                is skipped (`"skip"`), replaces the stored one (`"replace"`), or the call fails (`"fail"`). Services
                that do not support this insert every chunk, and the outcomes say so.

        Sends one request, however large; `store_db` splits. Raises `ContextNotFound`, `KnowledgeBaseNotFound`,
        `TooLarge`, `CiphertextRefused`, `NamesTaken`.
        """
        index = payloads.own_indexes(chunks) if index is None else index
        _check_counts(len(chunks), len(index))

        new = await asyncio.to_thread(payloads.new_chunks, chunks, index)
        payload = self._checked(wire.InsertChunks(kb_id, context_id, new, on_conflict))
        body = await asyncio.to_thread(payloads.body, payload, len(new))
        await self._check_nonces(context_id, new)
        return await self._insert(body)

    async def store_db(
        self,
        db: Sequence[Mapping[str, Any]],
        index: Sequence[Any],
        kb_id: str,
        context_id: str,
        concurrent: bool = False,
        batch_size: Positive = DEFAULT_BATCH_SIZE,
        *,
        concurrency: Positive = 4,
        on_stored: Callable[[InsertedIds], object] | None = None,
        on_conflict: wire.OnConflict | None = None,
    ) -> InsertedIds:
        """Stores encrypted chunks in batches and returns their ids, in the order of the input.

        The arguments are those of `insert_chunks`. With `concurrent`, up to `concurrency` batches are sent at the same
        time. `on_stored` is called with the ids and outcomes of each stored batch. Each batch is stored completely or
        not at all. If one fails, batches in progress are finished and no new one begins. Then `PartlyStored` is
        raised, which says what is stored and has the error as its cause; if nothing was stored, the error itself is
        raised.
        """
        _check_counts(len(db), len(index))
        chunk_ids: list[int | None] = [None] * len(db)
        outcomes: list[wire.Outcome] = ["inserted"] * len(db)
        starts = iter(range(0, len(db), batch_size))
        failures: list[Exception] = []

        async def store_batches() -> None:
            for start in starts:
                try:
                    await store_batch(start)
                except Exception as error:  # raised below, when the other batches are done
                    failures.append(error)
                if failures:
                    return

        async def store_batch(start: int) -> None:
            stop = start + batch_size
            new, bodies = await asyncio.to_thread(
                self._bodies, db[start:stop], index[start:stop], kb_id, context_id, on_conflict
            )
            await self._check_nonces(context_id, new)
            for body in bodies:
                stored = await self._insert(body)
                place = slice(start, start + body.chunks)
                chunk_ids[place], outcomes[place] = stored, stored.outcomes
                start += body.chunks
                if on_stored is not None:
                    on_stored(stored)

        await asyncio.gather(*(store_batches() for _ in range(concurrency if concurrent else 1)))
        if failures:
            if isinstance(failures[0], XTraceError) and any(chunk_id is not None for chunk_id in chunk_ids):
                raise PartlyStored(chunk_ids, failures[0]) from failures[0]
            raise failures[0]
        return InsertedIds([chunk_id for chunk_id in chunk_ids if chunk_id is not None], outcomes)

    def _bodies(
        self,
        db: Sequence[Mapping[str, Any]],
        index: Sequence[Any],
        kb_id: str,
        context_id: str,
        on_conflict: wire.OnConflict | None,
    ) -> tuple[list[wire.NewChunk], list[payloads.Body]]:
        """Returns the chunks to insert, and the bodies of the requests that do."""
        new = payloads.new_chunks(db, index)

        def payload(part: list[wire.NewChunk]) -> wire.InsertChunks:
            return self._checked(wire.InsertChunks(kb_id, context_id, part, on_conflict))

        return new, payloads.bodies(new, payload)

    async def _check_nonces(self, context_id: str, chunks: Sequence[wire.NewChunk | wire.ChunkUpdate]) -> None:
        """Raises `InvalidArgument` for a chunk without a nonce under a context whose chunks need nonces."""
        without = next((i for i, chunk in enumerate(chunks) if not chunk.nonce), None)
        if without is not None and await self._is_native(context_id):
            raise InvalidArgument(
                f"the chunk at position {without} has no nonce, and cannot be read under the context {context_id} "
                "without it: pass the nonce that was fetched with the chunk, or use copy_knowledge_base"
            )

    async def _is_native(self, context_id: str) -> bool:
        """Whether the stored context is native; False if it is unknown or the key may not read it."""
        if context_id not in self._native:
            try:
                stored = await self.get_serialized_exec_context(context_id)
            except (ContextNotFound, PermissionDenied):
                return False
            self._native[context_id] = payloads.is_native(stored["config"])
        return self._native[context_id]

    async def _insert(self, body: payloads.Body) -> InsertedIds:
        answer = await self._service.write("POST", wire.InsertedChunks, body)
        ids = answer.chunk_ids
        inserted: list[wire.Outcome] = ["inserted"] * len(ids)
        outcomes = inserted if answer.results is msgspec.UNSET else answer.results
        if len(ids) != body.chunks or len(set(ids)) != body.chunks or min(ids, default=1) < 1:
            raise InvalidAnswer(
                f"the server returned {len(ids)} ids for {body.chunks} chunks, expected one above 0 for each"
            )
        if len(outcomes) != body.chunks:
            raise InvalidAnswer(
                f"the server returned {len(outcomes)} results for {body.chunks} chunks, expected one for each"
            )
        return InsertedIds(ids, outcomes)

    async def find_chunk_names(self, kb_id: str, context_id: str, names: Sequence[str]) -> dict[str, int]:
        """Returns the names that are stored under the context, each with the smallest id of a chunk with that name."""
        found: dict[str, int] = {}
        for batch in payloads.in_batches(list(dict.fromkeys(names)), _NAMES_PER_CALL):
            body = payloads.encode(wire.FindNames(kb_id, context_id, list(batch)))
            # The answer is not larger than the request, except that every character may be escaped.
            largest = 6 * len(body) + MAX_COUNT_BYTES
            answer = await self._service.data("POST", "chunk/names", wire.FoundNames, body=body, max_bytes=largest)
            if not answer.chunk_ids.keys() <= set(batch) or min(answer.chunk_ids.values(), default=1) < 1:
                raise InvalidAnswer(
                    "the server answered for names that were not requested, or with ids that do not exist"
                )
            found |= answer.chunk_ids
        return found

    # By id

    async def get_chunk_by_id(
        self, chunk_ids: Iterable[int], kb_id: str, projection: Iterable[str] | None = None
    ) -> list[StoredChunk]:
        """Returns the chunks in the order of the ids, without unknown ids and duplicates.

        `projection` names the fields to return: `chunk_content`, `index`, `nonce`, `meta_data`, single tags, `facets`,
        `name`, `created_at`, `updated_at`; by default all. `nonce` and the ciphertexts are bytes.
        """
        named = payloads.projection(projection)
        fields: Parameters = [("projection", name) for name in named or ()]
        chunks: list[StoredChunk] = []
        for batch in _id_batches(chunk_ids):
            answer = await self._chunks_by_id(batch, kb_id, fields)
            asked = iter(batch)
            if not all(
                chunk.chunk_id in asked for chunk in answer
            ):  # `in` advances the iterator, so this checks the order
                raise InvalidAnswer("the server returned chunks that were not requested, or in a different order")
            chunks += await stored_chunks(answer, named)
        return chunks

    async def _chunks_by_id(self, ids: Sequence[int], kb_id: str, fields: Parameters) -> list[wire.Chunk]:
        """Yields the chunks as the service returns them, in several answers if one would be too large."""
        try:
            return await self._service.data(
                "GET", "chunk", list[wire.Chunk], parameters=[*_selection(kb_id, ids), *fields]
            )
        except AnswerTooLarge:
            middle = len(ids) // 2
            if not middle:
                raise
            first = await self._chunks_by_id(ids[:middle], kb_id, fields)
            return first + await self._chunks_by_id(ids[middle:], kb_id, fields)

    async def update_chunks(
        self,
        index_updates: Sequence[Any],
        chunk_updates: Sequence[Mapping[str, Any]],
        context_id: str,
        kb_id: str,
    ) -> None:
        """Replaces whole chunks: `chunk_updates` are chunks as for `insert_chunks`, each with its `chunk_id`.

        `index_updates` has the encrypted vector of each, as for `insert_chunks`.

        Up to 10,000 chunks and 32 MiB are one transaction: all or none. More go in several transactions, in order. If
        a later one fails, `PartlyStored` says which chunks are updated, and it is safe to repeat the call. Afterwards
        the chunks belong to `context_id`. A chunk with `if_updated_at`, the `updated_at` with which it was read, does
        not overwrite a later change. Raises `ChunksNotFound`, which names unknown ids, and `ChunksChanged`.
        """
        _check_counts(len(chunk_updates), len(index_updates))

        chunks = await asyncio.to_thread(payloads.chunk_updates, chunk_updates, index_updates)

        def convert() -> list[payloads.Body]:
            return payloads.bodies(chunks, lambda part: self._checked(wire.UpdateChunks(kb_id, context_id, part)))

        bodies = await asyncio.to_thread(convert)
        await self._check_nonces(context_id, chunks)
        await self._change("PUT", chunk_updates, bodies)

    async def patch_chunks(self, kb_id: str, context_id: str, chunk_patches: Sequence[Mapping[str, Any]]) -> None:
        """Changes the named fields of chunks: `{"chunk_id": 7, "meta_data": {"tag1": "new", "tag2": None}}` each.

        None removes a tag, the facets or the name; other fields stay. Transactions and `if_updated_at` are as for
        `update_chunks`. Raises `ChunksNotFound`, which names unknown ids, and `ChunksChanged`.
        """

        def convert() -> list[payloads.Body]:
            chunks = payloads.chunk_patches(chunk_patches)
            return payloads.bodies(chunks, lambda part: self._checked(wire.PatchChunks(kb_id, context_id, part)))

        await self._change("PATCH", chunk_patches, await asyncio.to_thread(convert))

    async def _change(self, method: str, changes: Sequence[Mapping[str, Any]], bodies: Sequence[payloads.Body]) -> None:
        """Sends the changes in order. Raises `PartlyStored` if a body after the first fails."""
        done = 0
        for body in bodies:
            try:
                await self._service.write(method, wire.Acknowledgement, body)
            except XTraceError as error:
                if not done:
                    raise
                ids = [int(change["chunk_id"]) if i < done else None for i, change in enumerate(changes)]
                raise PartlyStored(ids, error) from error
            done += body.chunks

    async def delete_chunks(self, chunk_ids: Iterable[int], kb_id: str) -> ChunkCount:
        """Deletes chunks and returns their number; unknown ids are ignored.

        After a lost answer, the count may exclude chunks that the first attempt deleted.
        """
        deleted = 0
        for batch in _id_batches(chunk_ids):
            answer = await self._service.data(
                "DELETE", "chunk", wire.DeletedCount, parameters=_selection(kb_id, batch), max_bytes=MAX_COUNT_BYTES
            )
            deleted += answer.deleted_count
        return ChunkCount("deleted_count", deleted)

    # By metadata

    async def delete_chunks_by_meta(
        self, kb_id: str, context_id: str, meta_filter: MetaFilter, dry_run: bool = False
    ) -> ChunkCount:
        """Deletes the chunks of the context that match the filter, and returns their number; `{}` matches every chunk.

        With `dry_run` nothing is deleted, and the number is how many would be.
        """
        body = self._body(wire.DeleteByMetaData(kb_id, context_id, payloads.chosen_filter(meta_filter), dry_run))
        if dry_run:
            would_delete = await self._count("DELETE", wire.WouldDeleteCount, body)
            return ChunkCount("would_delete_count", would_delete.would_delete_count)
        return ChunkCount("deleted_count", (await self._count("DELETE", wire.DeletedCount, body)).deleted_count)

    async def patch_chunks_by_meta(
        self,
        kb_id: str,
        context_id: str,
        meta_filter: MetaFilter,
        patch: Mapping[str, Any],
        dry_run: bool = False,
    ) -> ChunkCount:
        """Changes tags and facets of the chunks of the context that match the filter, and returns their number.

        `{}` matches every chunk; None removes a field. With `dry_run` nothing is changed, and the number is how many
        would be. Raises `InvalidMetaData` for a patch with other fields.
        """
        change = payloads.meta_data_patch(patch)
        body = self._body(wire.PatchByMetaData(kb_id, context_id, payloads.chosen_filter(meta_filter), change, dry_run))
        if dry_run:
            would_update = await self._count("PATCH", wire.WouldUpdateCount, body)
            return ChunkCount("would_update_count", would_update.would_update_count)
        return ChunkCount("updated_count", (await self._count("PATCH", wire.UpdatedCount, body)).updated_count)

    async def _count(self, method: str, answer: type[T], body: bytes) -> T:
        return await self._service.data(method, "chunk/by-meta", answer, body=body, max_bytes=MAX_COUNT_BYTES)


def _id_batches(chunk_ids: Iterable[int]) -> Iterator[Sequence[int]]:
    return payloads.in_batches(list(dict.fromkeys(payloads.chunk_ids(chunk_ids))), _IDS_PER_CALL)


def _selection(kb_id: str, chunk_ids: Sequence[int]) -> list[tuple[str, str | int]]:
    return [("kb_id", kb_id), *[("chunk_ids", chunk_id) for chunk_id in chunk_ids]]


async def stored_chunks(chunks: list[wire.Chunk], projection: list[str] | None) -> list[StoredChunk]:
    """Returns the chunks for the caller, and removes them from the list.

    Raises `InvalidAnswer` if one lacks a requested field that every chunk has.
    """
    always = _ALWAYS_THERE.intersection(projection or ())

    def convert() -> list[StoredChunk]:
        converted: list[StoredChunk] = []
        # An answer may have very many chunks, so each is freed as soon as it is converted.
        chunks.reverse()
        while chunks:
            chunk: StoredChunk = msgspec.to_builtins(chunks.pop(), builtin_types=(bytes,))
            if missing := always - chunk.keys():
                raise InvalidAnswer(
                    f"the server returned chunk {chunk['chunk_id']} without its {', '.join(sorted(missing))}"
                )
            converted.append(chunk)
        return converted

    return convert() if len(chunks) <= RESULTS_PER_PAGE else await asyncio.to_thread(convert)


def _check_counts(chunks: int, indexes: int) -> None:
    if chunks != indexes:
        raise InvalidArgument(f"got {chunks} chunks and {indexes} encrypted vectors, expected one for each")
