"""Bringing an index up to date: what changed is fetched, read, and written as another segment."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from xtrace_core.secrecy import Secretive
from xtrace_sdk.errors import SegmentNotFound, ServiceRolledBack
from xtrace_sdk.service.changes import ChunkChanges
from xtrace_sdk.service.integration import StoredChunk, XTraceIntegration
from xtrace_sdk.x_vec.chunks.envelope import Content, pack
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.local.arrivals import arrived
from xtrace_sdk.x_vec.local.index_file import IndexFile
from xtrace_sdk.x_vec.local.loaded import Loaded, Part
from xtrace_sdk.x_vec.local.manifest import Manifest
from xtrace_sdk.x_vec.local.segment import Row, Segment
from xtrace_sdk.x_vec.local.shared_index import SharedIndex, warn_rejected
from xtrace_sdk.x_vec.local.state import Progress, SegmentEntry, State
from xtrace_sdk.x_vec.stored.content import clear_chunk, open_under_lineage

FIELDS: Final = ("chunk_content", "created_at", "updated_at")
"""What is fetched of a chunk, with its nonce."""
WITH_META_DATA: Final = (*FIELDS, "meta_data")
"""The same for chunks whose metadata the service has."""
CHUNKS_AT_ONCE: Final = 2000
"""Chunks that are fetched, read and written together: what an interrupted synchronisation repeats at most."""
MAX_SEGMENTS: Final = 8
MAX_MERGED_BYTES: Final = 6 << 20
"""Segments are not merged into larger ones, so that a merge is quick, and each can be shared."""
FAR_BEHIND: Final = 20_000
"""After this many chunks, a synchronisation that is not at its end looks whether the shared index is ahead."""
_ROUNDS: Final = 3
"""How often a synchronisation goes on because the knowledge base changed meanwhile."""

Ranges = list[tuple[int, int]]


class KeptContent(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """A content as it is kept in the folder, inside the seal."""

    envelope: bytes
    created_at: str
    updated_at: str
    meta_data: dict[str, Any] | None = None


class Read(NamedTuple):
    """A chunk that was fetched and opened."""

    context: ExecutionContext
    content: Content
    kept: KeptContent


def read_chunk(context: ExecutionContext, kb_id: str, chunk: StoredChunk) -> Read:
    """Opens a chunk, whose metadata is read if it was fetched. Raises `ContentTampered`, `UnknownContent`."""
    origin, content = open_under_lineage(context, kb_id, chunk)
    meta_data = clear_chunk(origin, chunk, content)["meta_data"] if "meta_data" in chunk else None
    kept = KeptContent(pack(content), chunk.get("created_at") or "", chunk.get("updated_at") or "", meta_data)
    return Read(origin, content, kept)


def row_of(context: ExecutionContext, chunk_id: int, read: Read) -> Row:
    """What is indexed of a chunk of the context's lineage."""
    origin = list(reversed(context.lineage)).index(read.context)
    return Row(chunk_id, origin, read.content, read.kept.meta_data)


class Synchroniser(Secretive):
    """Follows one knowledge base into one file."""

    __slots__ = ("_context", "_fetched", "_fields", "_file", "_kb_id", "_shared", "_xtrace", "loaded")

    def __init__(
        self,
        xtrace: XTraceIntegration,
        context: ExecutionContext,
        kb_id: str,
        file: IndexFile,
        loaded: Loaded,
        fields: Sequence[str],
        shared: SharedIndex,
    ) -> None:
        """`fields` are what is fetched of each chunk. An index that is empty or far behind begins with the shared
        one."""
        self._xtrace = xtrace
        self._context = context
        self._kb_id = kb_id
        self._file = file
        self._fields = fields
        self._shared = shared
        self._fetched = 0
        self.loaded = loaded
        """The index as of now; another object after each change."""

    async def run(self, keeps: Callable[[int], bool]) -> None:
        """Applies everything that changed. `keeps` says whether an index of that many chunks keeps contents.

        Raises `Outpaced` if another process did so meanwhile, `ServiceRolledBack`, `ContentTampered`, and what
        `XTraceIntegration` raises.
        """
        if not self.loaded.state.revisions:
            await self._adopt(keeps)
        # The newest context first: a chunk that a rotation moves meanwhile is then found in one of both.
        for context in reversed(self._context.lineage):
            for _ in range(_ROUNDS):
                if await self._follow(context, keeps):
                    break
        await asyncio.to_thread(self._complete)
        await asyncio.to_thread(self._tidy)

    async def _follow(self, context: ExecutionContext, keeps: Callable[[int], bool]) -> bool:
        """Applies what changed under one context; False if more has changed since it began."""
        while True:
            state = self.loaded.state
            since, progress = state.revisions.get(context.id, 0), state.progress.get(context.id)
            changes = await self._xtrace.local_changes(
                self._kb_id, context.id, since, progress.after if progress else 0, CHUNKS_AT_ONCE
            )
            begun = progress.revision if progress else changes.revision
            if changes.revision < max(since, begun):
                raise ServiceRolledBack(
                    f"the knowledge base {self._kb_id} is at revision {changes.revision} on the service, but this "
                    f"machine has seen revision {max(since, begun)}: the service lost or withholds later writes. If "
                    "its operator restored a backup, clear the local index (`xtrace local clear`) and search again"
                )
            if changes.revision > since or changes.chunk_ids:
                # Of a replaced context only what its manifests list: others may have its keys, and write under them.
                counts = context.accepted.ids(self._kb_id, changes.chunk_ids).tolist()
                wanted = [chunk_id for chunk_id, does in zip(changes.chunk_ids, counts, strict=True) if does]
                chunks = await self._xtrace.get_chunk_by_id(wanted, self._kb_id, self._fields)
                await asyncio.to_thread(self._apply, context, changes, begun, chunks, keeps)
                await arrived(self.loaded.count, has_more=changes.has_more)
                if self._fetched < FAR_BEHIND <= self._fetched + len(chunks) and changes.has_more:
                    await self._adopt(keeps)
                self._fetched += len(chunks)
            if not changes.has_more:
                return changes.revision == begun

    async def _adopt(self, keeps: Callable[[int], bool]) -> None:
        """Continues from the shared index if that is ahead. One that keeps all contents has to fetch them anyway."""
        for _ in range(_ROUNDS):
            manifest = (await self._shared.described()).manifest
            if manifest is None or not manifest.is_ahead_of(self.loaded.state.revisions) or keeps(manifest.count):
                return
            with suppress(SegmentNotFound):  # it was replaced meanwhile
                segments = await self._shared.fetched(manifest)
                if segments is not None:
                    await asyncio.to_thread(self._take_over, manifest, segments)
                return
        warn_rejected("the service lacks segments of it")

    # Each in a thread, and one transaction

    def _take_over(self, manifest: Manifest, segments: dict[bytes, Segment]) -> None:
        state = self.loaded.state
        with self._file.changing(state.generation):
            self._file.drop_all_contents()  # they may be older than what the segments say of them
            changed = replace(state, dim=manifest.dim, revisions=manifest.revisions, progress={}, unshared=0)
            parts = [Part(segments[entry.digest], entry.alive()) for entry in manifest.segments]
            self._commit(changed, manifest.segments, parts)

    def _apply(
        self,
        context: ExecutionContext,
        changes: ChunkChanges,
        begun: int,
        chunks: Sequence[StoredChunk],
        keeps: Callable[[int], bool],
    ) -> None:
        did_keep, does_keep = keeps(self.loaded.count), keeps(self.loaded.count + len(chunks))
        rows, kept = self._read(chunks)
        state = self.loaded.state
        dead = np.array([*changes.chunk_ids, *(changes.gone or ())], np.int64)
        origin = list(reversed(self._context.lineage)).index(context)
        segment = Segment.of(rows, state.dim) if rows else None
        alive = [
            part.alive & ~np.isin(part.segment.chunk_ids, dead) & ~_gone(part.segment, origin, changes.living)
            for part in self.loaded.parts
        ]
        progress, revisions = dict(state.progress), dict(state.revisions)
        progress.pop(context.id, None)
        if changes.has_more:
            progress[context.id] = Progress(begun, changes.chunk_ids[-1])
        else:
            revisions[context.id] = begun
        with self._file.changing(state.generation):
            entries = [entry.with_alive(mask) for entry, mask in zip(state.segments, alive, strict=True)]
            parts = [Part(part.segment, mask) for part, mask in zip(self.loaded.parts, alive, strict=True)]
            if segment is not None:
                self._add(segment, entries, parts)
            self._file.drop_contents([*_lost(self.loaded.parts, alive), *changes.chunk_ids])
            if does_keep:
                self._file.keep_contents(kept)
            elif did_keep:  # it has become too large for a replica
                self._file.drop_all_contents()
            dim = state.dim or (segment.dim if segment is not None else 0)
            changed = replace(
                state,
                dim=dim,
                revisions=revisions,
                progress=progress,
                synchronised_at=time.time(),
                unshared=state.unshared + len(rows),
            )
            self._commit(changed, entries, parts)

    def _read(self, chunks: Sequence[StoredChunk]) -> tuple[list[Row], dict[int, bytes]]:
        """Decrypts chunks. Raises `ContentTampered`, `UnknownContent`."""
        rows, kept = list[Row](), dict[int, bytes]()
        for chunk in chunks:
            read = read_chunk(self._context, self._kb_id, chunk)
            rows.append(row_of(self._context, chunk["chunk_id"], read))
            kept[chunk["chunk_id"]] = msgspec.msgpack.encode(read.kept)
        return rows, kept

    def _complete(self) -> None:
        """Notes the time if an index was only begun before: a shared one, in which nothing has changed since."""
        state = self.loaded.state
        if state.revisions and not state.synchronised_at:
            with self._file.changing(state.generation):
                self._commit(replace(state, synchronised_at=time.time()), state.segments, self.loaded.parts)

    def _tidy(self) -> None:
        """Merges small segments if there are many, so that their number stays small and merging costs little."""
        for _ in range(len(self.loaded.parts)):  # what is joined may be cut again, if its size was estimated badly
            sizes = [
                (_living_bytes(entry, part.alive), entry.size)
                for entry, part in zip(self.loaded.state.segments, self.loaded.parts, strict=True)
            ]
            if not (chosen := _to_merge(sizes)):
                return
            self._merge(chosen)

    def _merge(self, chosen: Sequence[int]) -> None:
        """Replaces the segments at these places by one of the rows that count, in one transaction."""
        state, parts = self.loaded.state, self.loaded.parts
        old = [parts[place] for place in chosen if parts[place].alive.any()]
        merged = Segment.merged([part.segment for part in old], [part.alive for part in old]) if old else None
        with self._file.changing(state.generation):
            entries = [entry for place, entry in enumerate(state.segments) if place not in chosen]
            kept = [part for place, part in enumerate(parts) if place not in chosen]
            if merged is not None:
                self._add(merged, entries, kept)
            self._commit(state, entries, kept)

    def _add(self, segment: Segment, entries: list[SegmentEntry], parts: list[Part]) -> None:
        for entry, one in self._file.add_segments(segment):
            entries.append(entry)
            parts.append(Part(one, np.ones(len(one), np.bool_)))

    def _commit(self, state: State, entries: list[SegmentEntry], parts: Sequence[Part]) -> None:
        """Writes the next state, with these segments."""
        changed = replace(state, generation=state.generation + 1, segments=entries)
        self._file.write_state(changed)
        self.loaded = Loaded(changed, parts)


def _gone(segment: Segment, origin: int, living: Ranges | None) -> NDArray[np.bool_]:
    """Which rows of a context are not among the living."""
    if living is None:
        return np.zeros(len(segment), np.bool_)
    firsts, lasts = (np.array(ends, np.int64) for ends in (zip(*living, strict=True) if living else ((), ())))
    places = np.searchsorted(firsts, segment.chunk_ids, "right") - 1
    gone: NDArray[np.bool_] = (segment.origins == origin) & ~(
        (places >= 0) & (segment.chunk_ids <= np.append(lasts, -1)[places])
    )
    return gone


def _lost(parts: Sequence[Part], alive: Sequence[NDArray[np.bool_]]) -> Iterable[int]:
    """The chunks that counted and do not any longer."""
    for part, mask in zip(parts, alive, strict=True):
        yield from part.segment.chunk_ids[part.alive & ~mask].tolist()


def _living_bytes(entry: SegmentEntry, alive: NDArray[np.bool_]) -> int:
    """About the bytes that a segment of the rows that count has."""
    return entry.size * int(alive.sum()) // entry.rows


def _to_merge(sizes: Sequence[tuple[int, int]]) -> list[int]:
    """The places of the segments to merge into one, by the living and all bytes of each; ascending.

    Those of which most rows are dead are written again without them. If there are many that are less than half full,
    the smallest join as long as none is much larger than those before together, so each row is merged a few times at
    most.
    """
    dead = [(living, place) for place, (living, size) in enumerate(sizes) if 2 * living < size]
    small = sorted((living, place) for place, (living, _) in enumerate(sizes) if 2 * living <= MAX_MERGED_BYTES)
    if not dead and len(small) <= MAX_SEGMENTS:
        return []
    total, chosen = 0, list[int]()
    for living, place in dead or small:
        if chosen and (total + living > MAX_MERGED_BYTES or (not dead and len(chosen) > 1 and living > 2 * total)):
            break
        total += living
        chosen.append(place)
    return sorted(chosen)
