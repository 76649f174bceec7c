"""Changes the metadata of stored chunks, and deletes by it, on the client: callers pass plaintext.

Private values are in the encrypted content. So changing them fetches the content, encrypts it again with the same
vector, and writes both. A chunk that is still under the predecessor thereby moves to the context, because nothing is
encrypted under the predecessor's keys. Concurrent changes are not overwritten: each chunk is written only if it is
unchanged since it was fetched, and otherwise fetched again.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from xtrace_core import metadata
from xtrace_sdk.errors import (
    ChunksChanged,
    ChunksNotFound,
    ContentTampered,
    InvalidArgument,
    InvalidMetaData,
    PartlyStored,
    UnknownContent,
    XTraceError,
    shown_ids,
)
from xtrace_sdk.service.counts import ChunkCount
from xtrace_sdk.service.integration import StoredChunk, XTraceIntegration
from xtrace_sdk.service.payloads import chosen_filter
from xtrace_sdk.x_vec.chunks.envelope import Content, pack
from xtrace_sdk.x_vec.chunks.private_metadata import FIELDS, MetaData, hidden_filter, hidden_meta_data, private_part
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.stored.chunks import grouped
from xtrace_sdk.x_vec.stored.content import clear_chunk, open_under_lineage
from xtrace_sdk.x_vec.stored.moving import MOVED_FIELDS, Update, moved

BATCH_SIZE = 500
"""The number of chunks that are fetched, encrypted again and written together."""
ATTEMPTS = 20
"""How often chunks are fetched again if others keep changing them."""

Filter = Mapping[str, Any] | str
ChangeOf = Callable[[int], MetaData]
_FETCHED = ("chunk_content", "nonce", "meta_data", "updated_at")


@dataclass(frozen=True, slots=True)
class _Changed:
    """A fetched chunk, with its changed content and the changed metadata for the service."""

    stored: StoredChunk
    context: ExecutionContext
    content: Content
    change: MetaData


class Patching:
    """Changes the metadata of chunks under one context in one knowledge base."""

    def __init__(self, context: ExecutionContext, integration: XTraceIntegration, kb_id: str) -> None:
        self._context = context
        self._integration = integration
        self._kb_id = kb_id
        self._fetched = _FETCHED if context.predecessor is None else MOVED_FIELDS

    async def patch(self, patches: Sequence[Mapping[str, Any]]) -> None:
        """See `DataLoader.patch_chunks`."""
        changes = _changes(patches)
        if not any(self._is_private(change) for change in changes.values()):
            public = [{"chunk_id": chunk_id, "meta_data": change} for chunk_id, change in changes.items()]
            return await self._integration.patch_chunks(self._kb_id, self._context.id, public)
        done: set[int] = set()
        try:
            await self._rewrite(lambda: self._named(changes.keys() - done), changes.__getitem__, done)
        except XTraceError as error:
            if not done:
                raise
            raise PartlyStored([chunk_id if chunk_id in done else None for chunk_id in changes], error) from error

    async def patch_matching(self, meta_filter: Filter, patch: Mapping[str, Any], dry_run: bool) -> ChunkCount:
        """See `DataLoader.patch_chunks_by_meta`."""
        change = _change(patch)
        filters = self._filters(meta_filter)
        if dry_run or not self._is_private(change):
            hidden = hidden_meta_data(self._context, change)
            counts = [
                await self._integration.patch_chunks_by_meta(self._kb_id, one.id, filter_, hidden, dry_run)
                for one, filter_ in filters
            ]
            return ChunkCount(counts[0].name, sum(counts))
        done: set[int] = set()
        await self._rewrite(lambda: self._matching(filters, done), lambda _: change, done)
        return ChunkCount("updated_count", len(done))

    async def delete_matching(self, meta_filter: Filter, dry_run: bool) -> ChunkCount:
        """See `DataLoader.delete_chunks_by_meta`."""
        counts = [
            await self._integration.delete_chunks_by_meta(self._kb_id, one.id, filter_, dry_run)
            for one, filter_ in self._filters(meta_filter)
        ]
        return ChunkCount(counts[0].name, sum(counts))

    def _filters(self, meta_filter: Filter) -> list[tuple[ExecutionContext, Any]]:
        chosen_filter(meta_filter)
        return [(one, hidden_filter(one, meta_filter)) for one in self._context.lineage]

    def _is_private(self, change: MetaData) -> bool:
        return not change.keys().isdisjoint(self._context.private_metadata)

    async def _rewrite(
        self, batches: Callable[[], AsyncIterator[list[StoredChunk]]], change: ChangeOf, done: set[int]
    ) -> None:
        """Applies the changes to all chunks of the batches; repeats with new batches, without the ids in `done`, until
        all are changed.
        """
        for _ in range(ATTEMPTS):
            conflict: BaseException | None = None
            async for batch in batches():
                conflict = await self._write(batch, change, done) or conflict
            if conflict is None:
                return
        raise conflict or AssertionError("no attempt was made")

    async def _write(self, batch: list[StoredChunk], change: ChangeOf, done: set[int]) -> BaseException | None:
        """Writes the chunks that are unchanged since they were fetched; returns the error if some were changed."""
        patches, moves = await asyncio.to_thread(self._encrypted, batch, change)
        conflict = None
        if patches:
            sent = self._integration.patch_chunks(self._kb_id, self._context.id, patches)
            conflict = await _sent(sent, [patch["chunk_id"] for patch in patches], done)
        if moves:
            await self._integration.store_exec_context(self._context.public_data(), self._context.id)
            updates, index = [update for update, _ in moves], [encrypted for _, encrypted in moves]
            sent = self._integration.update_chunks(index, updates, self._context.id, self._kb_id)
            conflict = await _sent(sent, [update["chunk_id"] for update in updates], done) or conflict
        return conflict

    def _encrypted(self, batch: Sequence[StoredChunk], change: ChangeOf) -> tuple[list[StoredChunk], list[Update]]:
        """Returns the patches of the context's own chunks, and the updates that move its predecessor's."""
        changed = [self._changed(chunk, change(chunk["chunk_id"])) for chunk in batch]
        patches = [self._patch(one) for one in changed if one.context is self._context]
        return patches, self._moves([one for one in changed if one.context is not self._context])

    def _patch(self, changed: _Changed) -> StoredChunk:
        nonce = changed.stored.get("nonce") or b""
        return {
            "chunk_id": changed.stored["chunk_id"],
            "chunk_content": self._context.aes.encrypt(pack(changed.content), nonce),
            "meta_data": changed.change,
            "if_updated_at": changed.stored["updated_at"],
        }

    def _moves(self, changed: Sequence[_Changed]) -> list[Update]:
        if not changed:
            return []
        chunks = [one.stored for one in changed]
        vectors, valid = changed[0].context.homomorphic.decrypt_vec_batch(
            [chunk["index"] for chunk in chunks], [chunk.get("nonce") for chunk in chunks]
        )
        valid &= changed[0].context.accepted.chunks(self._kb_id, chunks)
        if not valid.all():
            bad = [chunk["chunk_id"] for chunk, good in zip(chunks, valid, strict=True) if not good]
            raise ContentTampered(f"the vectors of the chunks {shown_ids(bad)} are not valid, so they were not changed")
        chunks = [{**one.stored, "meta_data": _applied(one.stored["meta_data"], one.change)} for one in changed]
        return moved(self._context, chunks, vectors, [pack(one.content) for one in changed])

    async def _named(self, ids: Iterable[int]) -> AsyncIterator[list[StoredChunk]]:
        """Yields the chunks with these ids, in batches. Raises `ChunksNotFound`, which names unknown ids."""
        ordered = sorted(ids)
        for start in range(0, len(ordered), BATCH_SIZE):
            batch = ordered[start : start + BATCH_SIZE]
            chunks = await self._integration.get_chunk_by_id(batch, self._kb_id, projection=self._fetched)
            missing = set(batch) - {chunk["chunk_id"] for chunk in chunks}
            if missing:  # the service rejects this with its own message
                changes = [{"chunk_id": chunk_id} for chunk_id in sorted(missing)]
                await self._integration.patch_chunks(self._kb_id, self._context.id, changes)
            yield chunks

    async def _matching(
        self, filters: Iterable[tuple[ExecutionContext, Any]], done: set[int]
    ) -> AsyncIterator[list[StoredChunk]]:
        """Yields the matching chunks that are not yet done, in batches."""
        for one, filter_ in filters:
            found = self._integration.iter_meta_search(
                self._kb_id, filter_, one.id, projection=self._fetched, page_size=BATCH_SIZE
            )
            async for batch in grouped((chunk async for chunk in found if chunk["chunk_id"] not in done), BATCH_SIZE):
                yield batch

    def _changed(self, chunk: StoredChunk, change: MetaData) -> _Changed:
        """Applies the change to the fetched chunk."""
        try:
            context, content = open_under_lineage(self._context, self._kb_id, chunk)
            if content.record is not None:
                raise InvalidMetaData(
                    f"chunk {chunk['chunk_id']} is a record of a collection: Collection.update changes its metadata"
                )
            now = clear_chunk(context, chunk, content)["meta_data"] | change
        except (ContentTampered, UnknownContent) as error:
            raise type(error)(f"chunk {chunk['chunk_id']}: {error}") from None
        kept = private_part(context, {field: now[field] for field in FIELDS if now.get(field) not in (None, [])})
        return _Changed(chunk, context, replace(content, meta_data=kept), hidden_meta_data(context, change))


async def _sent(request: Awaitable[None], chunk_ids: Sequence[int], done: set[int]) -> BaseException | None:
    """Waits for a write of these chunks, adds the written ones to `done`, and returns the error for changed ones."""
    try:
        await request
    except (ChunksChanged, ChunksNotFound) as refusal:
        return refusal
    except PartlyStored as error:
        done.update(chunk_id for chunk_id in error.chunk_ids if chunk_id is not None)
        if isinstance(error.__cause__, ChunksChanged | ChunksNotFound):
            return error.__cause__
        raise
    done.update(chunk_ids)
    return None


def _applied(meta_data: MetaData, change: MetaData) -> MetaData:
    return {field: value for field, value in (meta_data | change).items() if value is not None}


def _changes(patches: Sequence[Mapping[str, Any]]) -> dict[int, MetaData]:
    changes: dict[int, MetaData] = {}
    for position, patch in enumerate(patches):
        if set(patch) != {"chunk_id", "meta_data"} or not isinstance(patch["chunk_id"], int):
            raise InvalidArgument(
                f"patch {position} has the keys {', '.join(sorted(map(str, patch)))}, expected chunk_id (an integer) "
                "and meta_data; update_chunks replaces whole chunks"
            )
        if patch["chunk_id"] in changes:
            raise InvalidArgument(f"chunk {patch['chunk_id']} is patched twice, expected one patch for each chunk")
        changes[patch["chunk_id"]] = _change(patch["meta_data"])
    return changes


def _change(patch: Any) -> MetaData:
    """Checks and returns a change of metadata: None removes a field; facets have no duplicates."""
    try:
        change: MetaData = msgspec.to_builtins(metadata.parse_patch(patch))
    except metadata.InvalidMetaData as error:
        raise InvalidMetaData(str(error)) from None
    if change.get("facets"):
        change["facets"] = metadata.unique(change["facets"])
    return change
