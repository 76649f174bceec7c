"""Moves what is stored under a context to the one that replaces it: new primes, new content key, the same chunks.

Every chunk is fetched, its vector and text are decrypted, encrypted under the new context, and replace the stored ones
(docs/keys.md, "Rotation"). Each batch is one atomic write, and what remains is exactly what is still under the old
context, so an interrupted rotation resumes. Ids, metadata and names stay.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field

from xtrace_sdk.arguments import Positive, checked_call
from xtrace_sdk.errors import (
    ChunksChanged,
    ChunksNotFound,
    ContextNotFound,
    InvalidAnswer,
    InvalidArgument,
    NamesTaken,
    OtherRotation,
    TamperedData,
    shown_ids,
)
from xtrace_sdk.progress import progress_bar
from xtrace_sdk.service.integration import StoredChunk, XTraceIntegration
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.stored.chunks import (
    count_chunks,
    on_all_cores,
    read_chunks,
    stored_batches,
)
from xtrace_sdk.x_vec.stored.moving import MOVED_FIELDS, Update, moved
from xtrace_sdk.x_vec.stored.names import pass_on_salt
from xtrace_sdk.x_vec.upkeep.bad_chunks import Found, Problem, find_bad

BATCH_SIZE = 500
"""The number of chunks that are fetched, encrypted again and written together."""
READINGS = 3
"""How often a rotation of one knowledge base reads everything again because of chunks that did not decrypt."""
PASSES_IN_VAIN = 20
"""How often in a row others may have changed everything that is left during a pass."""
MAX_PASSES = 100
"""The maximum number of passes through a knowledge base, because a service may return moved chunks forever."""
EMPTY_PASSES = 3
"""How often in a row the service may say that something is left, but return nothing."""


@dataclass(frozen=True, slots=True)
class RotationSummary:
    """The result of a rotation, or of a dry run."""

    chunks: dict[str, int]
    """For each knowledge base how many chunks were moved, or in a dry run could be moved."""
    seconds: float
    removed_old: bool
    """Whether the old context was deleted from the service."""
    finished: bool = False
    """Whether the context no longer accepts anything under the old keys."""
    left: dict[str, int] = field(default_factory=dict)
    """For each knowledge base how many chunks remain under the old context because no manifest lists them."""

    @property
    def total(self) -> int:
        """The chunks of all knowledge bases."""
        return sum(self.chunks.values())

    @property
    def next_step(self) -> str:
        """Says in a sentence what remains to be done."""
        if self.finished:
            return (
                "the rotation is finished: save the new context now, and replace every copy that was saved before, "
                "because those still accept chunks under the old keys"
            )
        return (
            "the rotation is not finished: chunks under the old keys are still accepted; when everyone has the new "
            "context, rotate once more and finish"
        )


@checked_call
async def rotate(
    context: ExecutionContext,
    integration: XTraceIntegration,
    kb_ids: Iterable[str] | None = None,
    *,
    batch_size: Positive = BATCH_SIZE,
    finish: bool = False,
    remove_old: bool = False,
    dry_run: bool = False,
    instead_of: str | None = None,
) -> RotationSummary:
    """Moves the chunks under the context's predecessor to the context, and returns how many; call it again to resume.

    Args:
        context: created by `ExecutionContext.successor` and saved, so that its keys are not only in this process.
        integration: the service; its key needs write permission, and delete permission for `finish` and `remove_old`.
        kb_ids: the knowledge bases; by default all that the predecessor is bound to.
        batch_size: chunks in one write.
        finish: at the end retires the predecessor, so that the service stores nothing more under it, moves chunks
            written meanwhile, and removes the old keys from `context`: save it again afterwards. This cannot be
            undone.
        remove_old: finishes, and then deletes the predecessor from the service.
        dry_run: reads and decrypts every chunk without changing anything.
        instead_of: the id of another context to which a rotation was started, if its keys are lost.

    During the rotation, retrievers with `context` see each chunk exactly once. Others may keep writing under either
    context until the end: chunks that they change while a batch is in progress are not overwritten, and move with a
    later batch.

    If the context was created with manifests, the predecessor is retired at the beginning and only listed chunks move.
    `left` counts the others, and `verify` lists them.

    If a chunk does not decrypt, everything that remains is read twice more before anything else happens. The service
    learns which chunks are old, and which batches contained a chunk that does not decrypt, at most three times.

    A context can be rotated into only one other context: the service stores the id of the first one.

    Raises `OtherRotation` if that is a different one, `InvalidArgument`, `TamperedData` with the ids of chunks that do
    not decrypt (nothing of their batch is moved), `ContextInUse`, and what `XTraceIntegration` raises.
    """
    if (finish or remove_old) and kb_ids is not None:
        raise InvalidArgument("got kb_ids, but a rotation is finished for all knowledge bases at once: omit it")
    if context.predecessor is None:
        return await _after_the_end(context, integration, remove_old and not dry_run)
    if not (context.is_kept or dry_run):
        raise InvalidArgument(
            "the new context is not saved: save it first, because without it the moved chunks are lost"
        )
    began = time.monotonic()
    rotation = _Rotation(context, context.predecessor, integration, batch_size)
    chosen = await rotation.knowledge_bases() if kb_ids is None else list(dict.fromkeys(kb_ids))
    context.predecessor.accepted.check_open(chosen)
    finish = (finish or remove_old) and not dry_run
    await check_successor(context.predecessor.id, integration, instead_of, None if dry_run else context.id)
    await (rotation.read(chosen) if dry_run else rotation.move(chosen))
    if finish:
        await rotation.finish(remove_old)
    return rotation.summary(time.monotonic() - began, finish, remove_old and not dry_run)


async def check_successor(
    context_id: str, integration: XTraceIntegration, instead_of: str | None = None, successor: str | None = None
) -> None:
    """Raises `OtherRotation` if the context is being rotated into neither of these.

    Unless `successor` is None, the service keeps its id, so that no other rotation begins.
    """
    try:
        found = await integration.get_successor(context_id)
        if successor is not None and found in (None, instead_of):
            found = await integration.store_successor(context_id, successor, found)
    except ContextNotFound:  # removed by an earlier run, or never stored
        return
    if found not in (None, successor, instead_of if successor is None else None):
        raise OtherRotation(context_id, found)


async def _after_the_end(
    context: ExecutionContext, integration: XTraceIntegration, remove_old: bool
) -> RotationSummary:
    """Finishes without moving anything; the old context, of which only the id is left, may still be deleted."""
    if context.replaced is None:
        raise InvalidArgument("the context does not have a predecessor: create the new context with successor()")
    if remove_old:
        with suppress(ContextNotFound):  # removed before
            await integration.delete_exec_context(context.replaced)
    return RotationSummary({}, 0.0, remove_old, finished=True)


@dataclass(frozen=True, slots=True)
class _Pass:
    """The result of one pass over the chunks under the old context."""

    seen: int
    unlisted: int
    """The chunks that do not move, because no manifest lists them."""
    moved: int


class _Rotation:
    def __init__(
        self,
        context: ExecutionContext,
        predecessor: ExecutionContext,
        integration: XTraceIntegration,
        batch_size: int,
    ) -> None:
        self._new = context
        self._old = predecessor
        self._integration = integration
        self._batch_size = batch_size
        self._moved: dict[str, int] = {}
        self._left: dict[str, int] = {}

    async def knowledge_bases(self) -> list[str]:
        try:
            return await self._integration.get_kbs_for_ctx(self._old.id)
        except ContextNotFound:  # removed by an earlier run
            return []

    def summary(self, seconds: float, finished: bool, removed_old: bool) -> RotationSummary:
        left = {kb_id: count for kb_id, count in self._left.items() if count}
        return RotationSummary(dict(self._moved), seconds, removed_old, finished, left)

    async def move(self, kb_ids: Sequence[str]) -> None:
        await self._integration.store_exec_context(self._new.public_data(), self._new.id)
        if not self._old.accepted.is_everything:
            await self._retire()  # chunks written under stolen keys would not move anyway
        counts = [await count_chunks(self._integration, kb_id, self._old.id) for kb_id in kb_ids]
        with progress_bar("Rotating", sum(counts)) as advance:
            for kb_id, count in zip(kb_ids, counts, strict=True):
                moved = await self._move_knowledge_base(kb_id, advance) if count else 0
                self._moved[kb_id] = self._moved.get(kb_id, 0) + moved

    async def finish(self, remove_old: bool) -> None:
        """Retires the old context, and moves what others stored under it before that."""
        for kb_id in await self.knowledge_bases():  # including those whose chunks were all moved before
            await pass_on_salt(self._old, self._new, self._integration, kb_id)
        await self._retire()
        await self.move(await self.knowledge_bases())
        if remove_old and any(self._left.values()):
            raise InvalidArgument(
                f"{sum(self._left.values())} chunks that are in no manifest remain under the old context, so it was "
                "not removed: delete them (`xtrace kb verify` lists them), or finish without removing it"
            )
        if remove_old:
            with suppress(ContextNotFound):  # removed by an earlier run
                await self._integration.delete_exec_context(self._old.id)
        await asyncio.to_thread(self._new.forget_predecessor)

    async def _retire(self) -> None:
        with suppress(ContextNotFound):  # removed by an earlier run
            await self._integration.retire_exec_context(self._old.id)

    async def read(self, kb_ids: Sequence[str]) -> None:
        """Counts the chunks that can be moved. Raises `TamperedData` if some do not decrypt."""
        for kb_id in kb_ids:
            found = await self._readable(kb_id)
            self._moved[kb_id], self._left[kb_id] = found.chunks - found.unlisted, found.unlisted

    async def _move_knowledge_base(self, kb_id: str, advance: Callable[[int], None]) -> int:
        await pass_on_salt(self._old, self._new, self._integration, kb_id)
        in_all, in_vain, read_again, passes = 0, 0, 0, 0
        # Others may store more chunks, or change some during a pass: then there is another pass.
        while count := await count_chunks(self._integration, kb_id, self._old.id):
            try:
                done = await self._pass(kb_id, advance)
            except _Undecryptable:
                await self._readable(kb_id)
                read_again += 1
                if read_again == READINGS:
                    raise TamperedData(
                        f"{READINGS} times the service returned chunks that do not decrypt under the old context, "
                        "but that did when everything was read again: do not trust it"
                    ) from None
                continue
            self._left[kb_id] = done.unlisted
            if done.unlisted and done.seen == done.unlisted:
                break
            in_all += done.moved
            in_vain = 0 if done.moved else in_vain + 1
            passes += 1
            if passes == MAX_PASSES:
                raise InvalidAnswer(
                    f"the server says that {count} chunks are left under the old context after {passes} passes, "
                    "each of which moved all that it returned: rotate again when no client writes under the old context"
                )
            if in_vain >= (PASSES_IN_VAIN if done.seen else EMPTY_PASSES):
                raise InvalidAnswer(
                    f"the server says that {count} chunks are left under the old context, and {in_vain} passes in a "
                    "row returned none that could be moved: rotate again when no client writes under the old context"
                )
        return in_all

    async def _readable(self, kb_id: str) -> Found:
        """Reads everything that is left under the old context. Raises `TamperedData`, which names what does not
        decrypt."""
        concern = (Problem.VECTOR, Problem.CONTENT)
        found = await find_bad([self._old], self._integration, kb_id, self._batch_size, "Reading", concern)
        if found.bad:
            raise _undecryptable([one.chunk_id for one in found.bad])
        return found

    async def _pass(self, kb_id: str, advance: Callable[[int], None]) -> _Pass:
        """Moves the chunks that are under the old context now.

        While one batch is encrypted, its neighbours are transferred. Raises `_Undecryptable` at the first bad chunk, of
        whose batch nothing is moved.
        """
        writing: asyncio.Task[int] | None = None
        seen = unlisted = moved = 0
        async with aclosing(
            stored_batches(self._integration, kb_id, self._old.id, MOVED_FIELDS, self._batch_size)
        ) as read:
            try:
                async for batch in read:
                    listed = self._old.accepted.chunks(kb_id, batch)
                    counting = [chunk for chunk, counts in zip(batch, listed, strict=True) if counts]
                    seen += len(batch)
                    unlisted += len(batch) - len(counting)
                    encrypted = await self._encrypted_again(counting)
                    if writing is not None:
                        moved += await writing
                    writing = asyncio.create_task(self._write(kb_id, encrypted, advance))
                return _Pass(seen, unlisted, moved + (await writing if writing is not None else 0))
            finally:
                # A batch that is being written is finished: nothing is left halfway.
                if writing is not None:
                    await asyncio.gather(writing, return_exceptions=True)

    async def _encrypted_again(self, batch: list[StoredChunk]) -> list[Update]:
        return [chunk for part in await on_all_cores(self._encrypt_again, batch) for chunk in part]

    def _encrypt_again(self, chunks: list[StoredChunk]) -> list[Update]:
        read = read_chunks(self._old, chunks)
        if len(read.bad()):
            raise _Undecryptable
        contents = [content for content in read.contents if content is not None]  # all are, here
        return moved(self._new, chunks, read.vectors, contents)

    async def _write(self, kb_id: str, encrypted: list[Update], advance: Callable[[int], None]) -> int:
        """Replaces the original chunks with a batch, and returns the number of chunks.

        Chunks that were deleted or changed since are skipped: the next pass sees them again if they still exist.
        """
        while encrypted:
            try:
                await self._integration.update_chunks(
                    [index for _, index in encrypted], [chunk for chunk, _ in encrypted], self._new.id, kb_id
                )
                break
            except NamesTaken as refusal:
                encrypted = await self._without_taken_names(kb_id, encrypted, refusal)
            except (ChunksNotFound, ChunksChanged) as refusal:
                left = await self._unchanged(kb_id, encrypted)
                if len(left) == len(encrypted):
                    raise InvalidAnswer(
                        "the server rejects chunks as changed or unknown, but returns them unchanged"
                    ) from refusal
                encrypted = left
        advance(len(encrypted))
        return len(encrypted)

    async def _without_taken_names(self, kb_id: str, encrypted: list[Update], refusal: NamesTaken) -> list[Update]:
        """Does the same, without the names of chunks that another client has also loaded under the new context.

        These are then stored twice, and `DataLoader.superseded` lists the ones without a name.
        """
        names = [chunk["name"] for chunk, _ in encrypted if chunk["name"]]
        taken = await self._integration.find_chunk_names(kb_id, self._new.id, names)
        if not taken:
            raise InvalidAnswer(
                "the server rejects names as taken, but has no chunks with these names under the new context"
            ) from refusal
        return [(chunk | {"name": None} if chunk["name"] in taken else chunk, index) for chunk, index in encrypted]

    async def _unchanged(self, kb_id: str, encrypted: list[Update]) -> list[Update]:
        stored = await self._integration.get_chunk_by_id(
            [chunk["chunk_id"] for chunk, _ in encrypted], kb_id, projection=["updated_at"]
        )
        moments = {chunk["chunk_id"]: chunk["updated_at"] for chunk in stored}
        return [pair for pair in encrypted if moments.get(pair[0]["chunk_id"]) == pair[0]["if_updated_at"]]


class _Undecryptable(Exception):
    """A batch contains a chunk that does not decrypt."""


def _undecryptable(chunk_ids: list[int]) -> TamperedData:
    return TamperedData(
        f"the chunks {shown_ids(chunk_ids)} do not decrypt under the old context: they are damaged, or were written "
        "by other software. Run `xtrace kb verify` to list all of them, replace or delete them, and rotate again"
    )
