"""Copies what is stored under a context to another knowledge base, on the same service or another one.

The ciphertexts are copied unchanged, with their nonces, so nothing is embedded or encrypted again, and the same
context reads the copy. The salt for names is copied too, so loads recognise the chunks.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import NamedTuple

from xtrace_core.wire import OnConflict
from xtrace_sdk.arguments import Positive, checked_call
from xtrace_sdk.errors import InvalidArgument, TamperedData, shown_ids
from xtrace_sdk.progress import progress_bar
from xtrace_sdk.service.integration import StoredChunk, XTraceIntegration
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.stored.chunks import READ_FIELDS, count_chunks, on_all_cores, read_chunks, stored_batches
from xtrace_sdk.x_vec.upkeep.bad_chunks import find_bad

BATCH_SIZE = 500
"""Chunks that are fetched and stored together."""
_FIELDS = (*READ_FIELDS, "meta_data", "name")


@dataclass(frozen=True, slots=True)
class CopySummary:
    """The result of a copy."""

    copied: int
    """The number of chunks stored in the target."""
    known: int
    """The number of chunks that the target already had, from an earlier copy."""
    bad_ids: Sequence[int] = ()
    """Source ids of chunks that were not copied because they do not decrypt under the context."""
    taken_ids: Sequence[int] = ()
    """Source ids of chunks that were not copied because the target has another chunk with that name."""
    seconds: float = field(default=0.0, compare=False)


@checked_call
async def copy_knowledge_base(
    source: XTraceIntegration,
    kb_id: str,
    target: XTraceIntegration,
    target_kb_id: str,
    context: ExecutionContext,
    *,
    batch_size: Positive = BATCH_SIZE,
) -> CopySummary:
    """Copies the chunks under a context that the target does not have yet, and verifies the whole copy.

    Args:
        source: the service to copy from; its key needs read permission.
        kb_id: the knowledge base to copy.
        target: the service to copy to, the same or another; its key needs read and write permission.
        target_kb_id: the knowledge base to copy to. It must not contain chunks under this context, except from copies
            of the same source.
        context: the context whose chunks are copied; it also reads the copy.
        batch_size: chunks that are fetched and stored together.

    Call it again to resume after an interruption, or to copy chunks added since. Chunks that were changed or deleted
    in the source since an earlier copy stay unchanged in the target. Ids and times are assigned by the target.

    Both services see ciphertexts, hashed names, and metadata as stored in the source. Each learns how many chunks are
    copied, and in which batches.

    Raises `InvalidArgument` during a rotation, and for a target with incompatible names; `TamperedData` if the target
    does not return what it stored; `ForeignNameSalt`, and what `XTraceIntegration` raises.
    """
    began = time.monotonic()
    copying = _Copying(_End(source, kb_id), _End(target, target_kb_id), context, batch_size)
    await copying.prepare()
    await copying.run()
    await copying.check()
    return CopySummary(
        copying.copied, copying.known, copying.bad_ids, copying.taken_ids, round(time.monotonic() - began, 3)
    )


class _End(NamedTuple):
    integration: XTraceIntegration
    kb_id: str


class _Copying:
    def __init__(self, source: _End, target: _End, context: ExecutionContext, batch_size: int) -> None:
        self._source = source
        self._target = target
        self._context = context
        self._batch_size = batch_size
        self._marked_by = "nonce" if context.aes.binds_nonces else "chunk_content"
        """A field that differs between any two chunks, because each encryption draws it afresh."""
        self._marks: set[bytes] = set()
        """Returns those of the chunks that the target has."""
        self.copied = 0
        self.known = 0
        self.bad_ids: list[int] = []
        self.taken_ids: list[int] = []

    async def prepare(self) -> None:
        """Prepares the target for the chunks. Raises `InvalidArgument` before anything is stored."""
        source, target, context = self._source, self._target, self._context
        if source.kb_id == target.kb_id and source.integration.api_url == target.integration.api_url:
            raise InvalidArgument(f"source and target are the same knowledge base {source.kb_id}: name another target")
        before = context.predecessor
        if before is not None and await count_chunks(source.integration, source.kb_id, before.id):
            raise InvalidArgument(
                "chunks remain under the context that this one replaces: finish the rotation, then copy"
            )
        target.integration.declare_private(context.id, context.private_metadata)
        stored = await source.integration.get_name_salt(source.kb_id, context.id)
        await target.integration.store_exec_context(context.public_data(), context.id)
        if stored is not None:
            salt = context.chunk_names(source.kb_id, stored).salt_for(target.kb_id)
            if await target.integration.store_name_salt(target.kb_id, context.id, salt) != salt:
                raise InvalidArgument(
                    f"chunks were loaded into the knowledge base {target.kb_id} under this context, so their names "
                    f"are incompatible with those of {source.kb_id}: copy into a new knowledge base"
                )
        self._marks = await self._target_marks()

    async def run(self) -> None:
        count = await count_chunks(self._source.integration, self._source.kb_id, self._context.id)
        with progress_bar("Copying", count) as advance:
            async with aclosing(
                stored_batches(
                    self._source.integration, self._source.kb_id, self._context.id, _FIELDS, self._batch_size
                )
            ) as batches:
                async for batch in batches:
                    await self._copy(batch, advance)

    async def check(self) -> None:
        """Raises `TamperedData` unless the target returns every chunk that was copied, each one genuine."""
        if lost := len(self._marks - await self._target_marks()):
            raise TamperedData(
                f"the target acknowledged {lost} chunks but does not return them, unless they were deleted "
                "meanwhile: copy again; if this happens again, do not trust the target"
            )
        found = await find_bad(
            [self._context], self._target.integration, self._target.kb_id, self._batch_size, "Verifying"
        )
        if found.bad:
            raise TamperedData(
                f"the chunks {shown_ids([one.chunk_id for one in found.bad])} of the target do not decrypt, but "
                "those of the source do: `xtrace kb verify` lists them; delete them, and copy again"
            )

    async def _target_marks(self) -> set[bytes]:
        target, marks = self._target, set[bytes]()
        async with aclosing(
            stored_batches(target.integration, target.kb_id, self._context.id, [self._marked_by], self._batch_size)
        ) as batches:
            async for batch in batches:
                marks.update(self._mark(chunk) for chunk in batch)
        return marks

    def _mark(self, chunk: StoredChunk) -> bytes:
        value = chunk.get(self._marked_by) or b""
        return hashlib.blake2b(value if isinstance(value, bytes) else value.encode(), digest_size=16).digest()

    async def _copy(self, batch: list[StoredChunk], advance: Callable[[int], None]) -> None:
        # Chunks that the target already has are read too: someone may have given another chunk's nonce to a damaged
        # one.
        bad = {i for part in await on_all_cores(self._undecryptable, batch) for i in part}
        self.bad_ids += sorted(bad)
        good = [chunk for chunk in batch if chunk["chunk_id"] not in bad]
        missing = [chunk for chunk in good if self._mark(chunk) not in self._marks]
        self.known += len(good) - len(missing)
        await self._store(missing)
        advance(len(batch))

    def _undecryptable(self, chunks: list[StoredChunk]) -> list[int]:
        return [chunks[i]["chunk_id"] for i in read_chunks(self._context, chunks).bad()]

    async def _store(self, chunks: list[StoredChunk]) -> None:
        """Stores chunks; of several with the same name in the batch, only the first gets it."""
        seen = set[str]()
        unique, others = list[StoredChunk](), list[StoredChunk]()
        for chunk in chunks:
            name = chunk.get("name")
            (unique if name and name not in seen and self._context.aes.binds_nonces else others).append(chunk)
            seen.add(name or "")
        conflicts: tuple[OnConflict | None, ...] = ("skip", None)
        for part, on_conflict in zip((unique, others), conflicts, strict=True):
            if not part:
                continue
            done = await self._target.integration.store_db(
                [_insertable(chunk) for chunk in part],
                [chunk["index"] for chunk in part],
                self._target.kb_id,
                self._context.id,
                batch_size=self._batch_size,
                on_conflict=on_conflict,
            )
            for chunk, outcome in zip(part, done.outcomes, strict=True):
                if outcome == "known":
                    self.taken_ids.append(chunk["chunk_id"])
                else:
                    self.copied += 1
                    self._marks.add(self._mark(chunk))


def _insertable(chunk: StoredChunk) -> StoredChunk:
    return {name: chunk[name] for name in ("chunk_content", "meta_data", "name", "nonce") if name in chunk}
