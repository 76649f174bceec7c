"""Moving what is stored under a context to the one that takes its place: new primes, new content key, the same chunks.

Every chunk is fetched, its vector recovered from its ciphertexts by decryption, its text decrypted, both encrypted
again and written in place of the old ones, which moves the chunk to the new context (docs/keys.md, "Rotation"). A batch
is one write, all or none, and what is left to do is exactly what is still under the old context: a rotation that was
cut off, however, goes on where it stopped. Ids, metadata and names stay.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass

from xtrace_sdk.arguments import Positive, checked_call
from xtrace_sdk.errors import (
    ChunksChanged,
    ChunksNotFound,
    ContextNotFound,
    InvalidAnswer,
    InvalidArgument,
    TamperedData,
    shown_ids,
)
from xtrace_sdk.progress import progress_bar
from xtrace_sdk.service.integration import XTraceIntegration
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.stored.chunks import (
    Chunk,
    batches,
    count_chunks,
    on_all_cores,
    read_chunks,
)
from xtrace_sdk.x_vec.stored.moving import MOVED_FIELDS, Update, moved
from xtrace_sdk.x_vec.stored.names import pass_on_salt
from xtrace_sdk.x_vec.upkeep.bad_chunks import Found, Problem, find_bad

BATCH_SIZE = 500
"""Chunks that are fetched, encrypted again and written together."""
READINGS = 3
"""How often one rotation of a knowledge base reads everything again because of chunks that did not decrypt."""
PASSES_IN_VAIN = 20
"""How often in a row all that is left may have been changed by others while it was on its way."""
EMPTY_PASSES = 3
"""How often in a row the service may say that something is left, and give nothing."""


@dataclass(frozen=True, slots=True)
class RotationSummary:
    """What a rotation did, or would do."""

    chunks: dict[str, int]
    """For each knowledge base how many chunks were moved; in a dry run, how many were read and can be."""
    seconds: float
    removed_old: bool
    """Whether the service has the old context no more."""

    @property
    def total(self) -> int:
        """The chunks of all knowledge bases."""
        return sum(self.chunks.values())


@checked_call
async def rotate(
    context: ExecutionContext,
    integration: XTraceIntegration,
    kb_ids: Iterable[str] | None = None,
    *,
    batch_size: Positive = BATCH_SIZE,
    remove_old: bool = False,
    dry_run: bool = False,
) -> RotationSummary:
    """Moves the chunks under the context's predecessor to the context, and says how many; call it again to go on.

    Args:
        context: made by `ExecutionContext.successor`, and saved: its keys must not be in this process alone.
        integration: the service; its key needs permission to write, and to delete for `remove_old`.
        kb_ids: the knowledge bases; by default all that the predecessor is bound to.
        batch_size: chunks a write.
        remove_old: deletes the predecessor from the service at the end, which the service refuses while any chunk is
            under it, and takes its keys out of `context`: save that again then.
        dry_run: reads and decrypts every chunk, and changes nothing.

    Retrievers of `context` see each chunk exactly once all the while. Others may go on writing, under either context:
    what they change while its batch is on its way is left alone, and moved by the next.

    At a chunk that does not decrypt, it reads all that is left again, twice, before it does anything else. The service
    learns which chunks are old, and in which batches it showed one that does not decrypt, three times at most.

    Raises `InvalidArgument`, `TamperedData` naming chunks that do not decrypt (nothing of their batch is moved),
    `ContextInUse`, and what `XTraceIntegration` raises.
    """
    if context.predecessor is None:
        raise InvalidArgument("the context has no predecessor, expected one made by successor()")
    if not (context.is_kept or dry_run):
        raise InvalidArgument("the new context is not saved anywhere: save it first, or its chunks are lost with it")
    began = time.monotonic()
    rotation = _Rotation(context, context.predecessor, integration, batch_size)
    chosen = await rotation.knowledge_bases() if kb_ids is None else list(dict.fromkeys(kb_ids))
    moved = await (rotation.read(chosen) if dry_run else rotation.move(chosen))
    removed = remove_old and not dry_run
    if removed:
        await rotation.remove_old()
    return RotationSummary(moved, time.monotonic() - began, removed)


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

    async def knowledge_bases(self) -> list[str]:
        try:
            return await self._integration.get_kbs_for_ctx(self._old.id)
        except ContextNotFound:  # removed by an earlier run
            return []

    async def move(self, kb_ids: Sequence[str]) -> dict[str, int]:
        await self._integration.store_exec_context(self._new.public_data(), self._new.id)
        counts = [await count_chunks(self._integration, kb_id, self._old.id) for kb_id in kb_ids]
        with progress_bar("Rotating", sum(counts)) as advance:
            return {
                kb_id: await self._move_knowledge_base(kb_id, advance) if count else 0
                for kb_id, count in zip(kb_ids, counts, strict=True)
            }

    async def read(self, kb_ids: Sequence[str]) -> dict[str, int]:
        """How many chunks there are to be moved. Raises `TamperedData` if some cannot be."""
        return {kb_id: (await self._readable(kb_id)).chunks for kb_id in kb_ids}

    async def remove_old(self) -> None:
        for kb_id in await self.knowledge_bases():  # also those whose chunks were all moved otherwise
            await pass_on_salt(self._old, self._new, self._integration, kb_id)
        with suppress(ContextNotFound):  # removed by an earlier run
            await self._integration.delete_exec_context(self._old.id)
        await asyncio.to_thread(self._new.forget_predecessor)

    async def _move_knowledge_base(self, kb_id: str, advance: Callable[[int], None]) -> int:
        await pass_on_salt(self._old, self._new, self._integration, kb_id)
        in_all, in_vain, read_again = 0, 0, 0
        # Others may store more, or change chunks while their batch is on its way: then there is another pass.
        while count := await count_chunks(self._integration, kb_id, self._old.id):
            try:
                seen, moved = await self._pass(kb_id, advance)
            except _Undecryptable:
                await self._readable(kb_id)
                read_again += 1
                if read_again == READINGS:
                    raise TamperedData(
                        f"{READINGS} times the service gave chunks that do not decrypt under the old context, and gave "
                        "them otherwise when everything was read again: do not trust it"
                    ) from None
                continue
            in_all += moved
            in_vain = 0 if moved else in_vain + 1
            if in_vain >= (PASSES_IN_VAIN if seen else EMPTY_PASSES):
                raise InvalidAnswer(
                    f"the server says that {count} chunks are left under the old context, and {in_vain} readings in a "
                    "row gave none that could be moved: rotate again when nobody writes under the old context"
                )
        return in_all

    async def _readable(self, kb_id: str) -> Found:
        """Reads everything that is left under the old context. Raises `TamperedData` naming what does not decrypt."""
        concern = (Problem.VECTOR, Problem.CONTENT)
        found = await find_bad([self._old], self._integration, kb_id, self._batch_size, "Reading", concern)
        if found.bad:
            raise _undecryptable([one.chunk_id for one in found.bad])
        return found

    async def _pass(self, kb_id: str, advance: Callable[[int], None]) -> tuple[int, int]:
        """Moves what is under the old context now, and says how many chunks there were and how many were moved.

        While one batch is encrypted, its neighbours travel. Raises `_Undecryptable` at the first bad chunk, of whose
        batch nothing is moved.
        """
        writing: asyncio.Task[int] | None = None
        seen = moved = 0
        async with aclosing(batches(self._integration, kb_id, self._old.id, MOVED_FIELDS, self._batch_size)) as read:
            try:
                async for batch in read:
                    seen += len(batch)
                    encrypted = await self._encrypted_again(batch)
                    if writing is not None:
                        moved += await writing
                    writing = asyncio.create_task(self._write(kb_id, encrypted, advance))
                return seen, moved + (await writing if writing is not None else 0)
            finally:
                # A batch that is being written gets to its end: nothing is half done either way.
                if writing is not None:
                    await asyncio.gather(writing, return_exceptions=True)

    async def _encrypted_again(self, batch: list[Chunk]) -> list[Update]:
        return [chunk for part in await on_all_cores(self._encrypt_again, batch) for chunk in part]

    def _encrypt_again(self, chunks: list[Chunk]) -> list[Update]:
        read = read_chunks(self._old, chunks)
        if len(read.bad()):
            raise _Undecryptable
        contents = [content for content in read.contents if content is not None]  # as all are here
        return moved(self._new, chunks, read.vectors, contents)

    async def _write(self, kb_id: str, encrypted: list[Update], advance: Callable[[int], None]) -> int:
        """Writes a batch over what it was made from, and says how many chunks it was.

        What was deleted or changed since is left alone: the next pass sees it again if it is still there.
        """
        while encrypted:
            try:
                await self._integration.update_chunks(
                    [chunk for chunk, _ in encrypted], [index for _, index in encrypted], kb_id, self._new.id
                )
                break
            except (ChunksNotFound, ChunksChanged) as refusal:
                left = await self._unchanged(kb_id, encrypted)
                if len(left) == len(encrypted):
                    raise InvalidAnswer(
                        "the server refuses chunks as changed or unknown, and gives them unchanged"
                    ) from refusal
                encrypted = left
        advance(len(encrypted))
        return len(encrypted)

    async def _unchanged(self, kb_id: str, encrypted: list[Update]) -> list[Update]:
        stored = await self._integration.get_chunk_by_id(
            [chunk["chunk_id"] for chunk, _ in encrypted], kb_id, projection=["updated_at"]
        )
        moments = {chunk["chunk_id"]: chunk["updated_at"] for chunk in stored}
        return [pair for pair in encrypted if moments.get(pair[0]["chunk_id"]) == pair[0]["if_updated_at"]]


class _Undecryptable(Exception):
    """A batch holds a chunk that does not decrypt."""


def _undecryptable(chunk_ids: list[int]) -> TamperedData:
    return TamperedData(
        f"the chunks {shown_ids(chunk_ids)} do not decrypt under the old context: they were damaged, or written "
        "otherwise. `xtrace kb verify` finds all that are: replace or delete them, and go on"
    )
