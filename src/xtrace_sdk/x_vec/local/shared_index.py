"""The shared index of a knowledge base: a sealed copy of a local index, which clients leave for each other."""

import asyncio
import warnings
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from xtrace_core.secrecy import Secretive
from xtrace_core.wire import MAX_CHANGES
from xtrace_sdk.errors import (
    ChangedSinceSearch,
    InvalidAnswer,
    NotFound,
    ServiceRolledBack,
    SharedIndexOutdated,
)
from xtrace_sdk.notices import SharedIndexRejected
from xtrace_sdk.service.integration import XTraceIntegration
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.local.arrivals import arrived
from xtrace_sdk.x_vec.local.index_file import Damaged, IndexFile
from xtrace_sdk.x_vec.local.manifest import Manifest
from xtrace_sdk.x_vec.local.segment import Segment
from xtrace_sdk.x_vec.local.state import SegmentEntry, State

_AT_ONCE: Final = 4
"""Segments that are in transit together: at most 32 MiB."""
_ATTEMPTS: Final = 3


class SharedLocalIndex(NamedTuple):
    """What sharing a local index did."""

    chunks: int
    """How many chunks the index has that other clients can fetch now."""
    segments: int
    """How many segments were sent: those that the service lacked."""
    sent: int
    """Bytes of these segments."""


class Described(NamedTuple):
    """What the service has."""

    version: int
    """0 for nothing."""
    manifest: Manifest | None
    """None if there is none, or it is unreadable."""
    digests: frozenset[bytes]
    """The segments that the service has."""


class SharedIndex(Secretive):
    """The shared index of one knowledge base, context and kind, with the file of the local index of the same."""

    __slots__ = ("_context", "_file", "_kb_id", "_kind", "_xtrace")

    def __init__(
        self, xtrace: XTraceIntegration, context: ExecutionContext, kb_id: str, kind: str, file: IndexFile
    ) -> None:
        self._xtrace = xtrace
        self._context = context
        self._kb_id = kb_id
        self._kind = kind
        self._file = file

    async def described(self) -> Described:
        """Asks what the service has. An unreadable manifest is told of by a warning (`SharedIndexRejected`)."""
        try:
            found = await self._xtrace.shared_index(self._kb_id, self._context.id, self._kind)
        except NotFound:  # nothing is stored under the context, or the service does not know shared indexes
            return Described(0, None, frozenset())
        manifest = None
        if found.version:
            try:
                manifest = self._usable(await asyncio.to_thread(Manifest.opened, found.manifest, self._file))
            except Damaged:
                warn_rejected("its manifest was not made with the key of the context")
        return Described(found.version, manifest, frozenset(bytes.fromhex(one.sha256) for one in found.segments))

    def _usable(self, manifest: Manifest) -> Manifest | None:
        """None for one of other predecessors, whose rows would be mistaken for those of these."""
        return manifest if set(manifest.revisions) == {one.id for one in self._context.lineage} else None

    async def fetched(self, manifest: Manifest) -> dict[bytes, Segment] | None:
        """Fetches the segments of a manifest, several at once, and returns them by digest.

        Each is checked and kept in the file, and those that are in the file are not fetched again. Returns None if one
        is not what the manifest says, which a warning tells of (`SharedIndexRejected`).

        Raises `SegmentNotFound` if the shared index was replaced, `ServiceRolledBack` if it has seen a later revision
        than the service has, and what `XTraceIntegration` raises.
        """
        await self._check_revision(manifest)
        found, chunks = dict[bytes, Segment](), 0

        async def receive(entry: SegmentEntry) -> None:
            nonlocal chunks
            found[entry.digest] = await self._received(entry, manifest.dim)
            chunks += int(entry.alive().sum())
            await arrived(chunks, has_more=True)

        try:
            await _each(manifest.segments, receive)
        except (Damaged, InvalidAnswer):
            warn_rejected("a segment is damaged, or was not made with the key of the context")
            return None
        return found

    async def _received(self, entry: SegmentEntry, dim: int) -> Segment:
        if await asyncio.to_thread(self._file.has_segment, entry):
            return await asyncio.to_thread(self._file.segment, entry)
        sealed = await self._xtrace.get_index_segment(self._kb_id, self._context.id, self._kind, entry.digest.hex())
        return await asyncio.to_thread(self._file.receive_segment, entry, sealed, dim)

    async def _check_revision(self, manifest: Manifest) -> None:
        newest = max(manifest.revisions.values(), default=0)
        now = await self._xtrace.local_changes(self._kb_id, self._context.id, newest, 0, 1)
        if now.revision < newest:
            raise ServiceRolledBack(
                f"the knowledge base {self._kb_id} is at revision {now.revision} on the service, but its shared index "
                f"has seen revision {newest}: the service lost or withholds later writes. If its operator restored a "
                "backup, delete the shared index (`delete_shared_index`) and search again"
            )

    # Sharing

    async def share(self, state: State, count: int, least: int = 0) -> SharedLocalIndex:
        """Leaves an index on the service unless the shared one has everything that it has.

        Args:
            state: the state of the index, with nothing in progress.
            count: how many chunks it has.
            least: do nothing if fewer chunks than this were written since the shared index was made.

        Raises `PermissionDenied`, `QuotaExceeded`, `ChangedSinceSearch` if other clients keep replacing the shared
        index, and what `XTraceIntegration` raises.
        """
        segments = sent = 0
        if self._usable(Manifest.of(state)) is None:  # nothing was ever stored
            return SharedLocalIndex(0, 0, 0)
        for _ in range(_ATTEMPTS):
            there = await self.described()
            if there.manifest is not None and (
                there.manifest.covers(state.revisions) or await self._is_close(there.manifest, least)
            ):
                return SharedLocalIndex(there.manifest.count, segments, sent)
            lacking = [entry for entry in state.segments if entry.digest not in there.digests]
            await _each(lacking, self._send)
            segments, sent = segments + len(lacking), sent + sum(one.size for one in lacking)
            with suppress(SharedIndexOutdated):
                manifest = await asyncio.to_thread(Manifest.of(state).sealed, self._file)
                names = [entry.digest.hex() for entry in state.segments]
                await self._xtrace.put_shared_index(
                    self._kb_id, self._context.id, self._kind, there.version, manifest, names
                )
                await self._remove_replaced()
                return SharedLocalIndex(count, segments, sent)
        raise ChangedSinceSearch("other clients keep replacing the shared index: share it again later")

    async def _is_close(self, manifest: Manifest, least: int) -> bool:
        """Whether fewer chunks than this were written since."""
        written = 0
        for context_id, revision in manifest.revisions.items() if least else ():
            after, has_more = 0, True
            while has_more and written < least:
                page = await self._xtrace.local_changes(self._kb_id, context_id, revision, after, MAX_CHANGES)
                written += len(page.chunk_ids)
                after, has_more = page.chunk_ids[-1] if page.chunk_ids else after, page.has_more
        return written < least

    async def _send(self, entry: SegmentEntry) -> None:
        sealed = await asyncio.to_thread(self._file.sealed_segment, entry)
        await self._xtrace.add_index_segment(self._kb_id, self._context.id, self._kind, sealed)

    async def _remove_replaced(self) -> None:
        """Removes the shared indexes of the context's predecessors, which this one replaces."""
        for context in self._context.lineage:
            if context.id != self._context.id:
                with suppress(NotFound):
                    await self._xtrace.delete_shared_index(self._kb_id, context.id, self._kind)


async def _each(entries: Sequence[SegmentEntry], act: Callable[[SegmentEntry], Awaitable[None]]) -> None:
    """Acts on all, a few at once; the first error stops the others."""
    limit = asyncio.Semaphore(_AT_ONCE)

    async def one_of(entry: SegmentEntry) -> None:
        async with limit:
            await act(entry)

    running = [asyncio.create_task(one_of(entry)) for entry in entries]
    try:
        await asyncio.gather(*running)
    finally:
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def warn_rejected(reason: str) -> None:
    """Says that the shared index cannot be used, and why."""
    warnings.warn(
        f"the shared index on the service is not used, because {reason}: all contents are fetched instead. "
        "`xtrace local share` replaces it",
        SharedIndexRejected,
        stacklevel=2,
    )
