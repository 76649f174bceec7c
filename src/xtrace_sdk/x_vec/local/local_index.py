"""The local index of one knowledge base: a folder of the user's, kept up to date and searched."""

import asyncio
import math
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal, cast

import msgspec
from msgspec.structs import replace

from xtrace_core.secrecy import Secretive
from xtrace_sdk.arguments import shown
from xtrace_sdk.errors import ChangedSinceSearch, InaccessibleFile, InvalidArgument, XTraceError
from xtrace_sdk.service.integration import XTraceIntegration
from xtrace_sdk.x_vec.chunks.envelope import Content, unpack
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.local.folder import SUFFIX, default_folder, indexes, remove
from xtrace_sdk.x_vec.local.index_file import Damaged, IndexFile, Outpaced
from xtrace_sdk.x_vec.local.loaded import Candidates, Loaded
from xtrace_sdk.x_vec.local.segment import code_of
from xtrace_sdk.x_vec.local.shared_index import SharedIndex, SharedLocalIndex
from xtrace_sdk.x_vec.local.state import State
from xtrace_sdk.x_vec.local.synchronising import (
    FIELDS,
    WITH_META_DATA,
    KeptContent,
    Synchroniser,
    read_chunk,
)
from xtrace_sdk.x_vec.local.verifying import Comparison, LocalIndexReport

LocalKind = Literal["auto", "small", "codes", "replica"]
"""`replica` keeps all contents in the folder, `codes` those that were fetched. `auto` is a replica of up to 100,000
chunks, beyond that as `codes`; `small` the same, but of larger knowledge bases no index is begun unless a search asks
for it."""

KINDS: Final = ("auto", "small", "codes", "replica")
REPLICA_CHUNKS: Final = 100_000
LOCAL_BYTES: Final = 256 << 20
WORTH_SHARING: Final = 16_384
"""Chunks: an index is shared by itself once a client has read as many that the shared one lacks."""
_ATTEMPTS: Final = 20
_BOUNDED: Final = ("auto", "small")
_NAME: Final = "local index"
_NAME_WITH_META_DATA: Final = "local index with metadata"


def local_kind(kind: Any) -> LocalKind | None:
    """The kind of index that was chosen; None for none. Raises `InvalidArgument` for anything else."""
    if kind is not None and kind not in KINDS:
        raise InvalidArgument(f"the local index is {shown(kind)}, expected {', '.join(KINDS)}, or none")
    return cast("LocalKind | None", kind)


def checked_staleness(seconds: Any) -> float:
    """How old an index may be. Raises `InvalidArgument` for what is not a number from 0 to infinity."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds >= 0:
        raise InvalidArgument(f"max_staleness is {shown(seconds)}, expected seconds from 0 to infinity")
    return float(seconds)


class LocalIndex(Secretive):
    """The index of one knowledge base under one context; several processes may share its folder."""

    __slots__ = (
        *(
            "_asked_at",
            "_is_suitable",
            "_context",
            "_fields",
            "_file",
            "_kb_id",
            "_kind",
            "_loaded",
            "_lock",
            "_max_bytes",
            "_name",
            "_shares",
        ),
        "_xtrace",
        "folder",
    )

    def __init__(
        self,
        xtrace: XTraceIntegration,
        context: ExecutionContext,
        kb_id: str,
        *,
        kind: LocalKind = "auto",
        folder: Path | None = None,
        max_bytes: int = LOCAL_BYTES,
        with_meta_data: bool = False,
        shares: bool = True,
    ) -> None:
        """Nothing is read or sent yet.

        Args:
            kind: which contents are kept (`LocalKind`).
            folder: where the index is kept, by default `default_folder()`.
            max_bytes: the size of the folder. Beyond it, contents that are kept are dropped, then the indexes of other
                knowledge bases, the least recently used first.
            with_meta_data: whether the metadata that the service has of chunks is indexed too. Records do without.
            shares: whether an index that was built from many contents is left on the service for other clients.

        Raises `InvalidArgument` for another kind.
        """
        local_kind(kind)
        self._xtrace = xtrace
        self._context = context
        self._kb_id = kb_id
        self._kind = kind
        self._is_suitable: bool | None = None
        self._name = _NAME_WITH_META_DATA if with_meta_data else _NAME
        self._fields = WITH_META_DATA if with_meta_data else FIELDS
        self._max_bytes = max_bytes
        self._shares = shares
        self._lock = asyncio.Lock()
        self._file: IndexFile | None = None
        self._asked_at = -math.inf
        self._loaded = Loaded(State.empty(), [])
        self.folder = default_folder() if folder is None else folder

    @property
    def path(self) -> Path:
        """The file of this index. Its name is a pseudonym."""
        return self.folder / (self._context.pseudonym(self._name, self._context.id, self._kb_id) + SUFFIX)

    @property
    def is_optional(self) -> bool:
        """Whether searches may do without it where it cannot be kept."""
        return self._kind == "small"

    async def is_suitable(self) -> bool:
        """Whether a search that leaves the way open should use it: always, except that `small` begins no large one.

        The service learns that a client asks. Raises `InaccessibleFile`, and what `XTraceIntegration` raises.
        """
        if self._is_suitable is None:
            self._is_suitable = self._kind != "small" or await self._has_begun() or await self._is_small()
        return self._is_suitable

    async def _has_begun(self) -> bool:
        try:
            state = await asyncio.to_thread(lambda: self._opened().state() if self.path.exists() else State.empty())
        except Damaged:
            return False
        except OSError as error:
            raise _inaccessible(error) from None
        return bool(state.revisions or state.progress)

    async def _is_small(self) -> bool:
        """Whether no chunk has an id above the largest number of chunks: ids are given in order, from 1."""
        for context in self._context.lineage:
            beyond = await self._xtrace.local_changes(self._kb_id, context.id, 0, REPLICA_CHUNKS, 1)
            if beyond.chunk_ids:
                return False
        return True

    async def synchronised(self, max_staleness: float = 0) -> Loaded:
        """Returns the index as it is on the service now, or was `max_staleness` seconds ago at most.

        With infinity the service is asked the first time only. The service learns that a client synchronises, and which
        chunks changed since its last time: these are fetched.

        Raises `ServiceRolledBack`, `ContentTampered`, `InaccessibleFile`, and what `XTraceIntegration` raises.
        """
        async with self._lock:
            for attempt in range(_ATTEMPTS):
                try:
                    await asyncio.to_thread(self._reload)
                    if not self._is_fresh(max_staleness):
                        await self._synchronise()
                    return self._loaded
                except Outpaced:
                    pass
                except Damaged:
                    if attempt:
                        raise InaccessibleFile(
                            f"{self.path} cannot be written so that it can be read again: check the disk"
                        ) from None
                    await asyncio.to_thread(self._start_over)
                except OSError as error:
                    raise _inaccessible(error) from None
        raise InaccessibleFile(f"{self.path}: other processes changed the local index {_ATTEMPTS} times meanwhile")

    async def read(
        self, candidates: Candidates, decoy_ids: Sequence[int] = ()
    ) -> dict[int, tuple[dict[str, Any], Content]]:
        """Returns the contents of candidates, those that still exist, with their times and metadata; by chunk.

        Contents that are not kept are fetched in ascending order with the decoys, and kept afterwards.

        Raises `ChangedSinceSearch` if a fetched chunk is not the one that was indexed, `ContentTampered`, and what
        `XTraceIntegration` raises.
        """
        try:
            kept = await asyncio.to_thread(lambda: self._opened().contents(candidates.chunk_ids))
        except Damaged:
            await self.clear()
            raise ChangedSinceSearch("the local index was damaged and is built again: search again") from None
        except OSError as error:
            raise _inaccessible(error) from None
        missing = [chunk_id for chunk_id in candidates.chunk_ids if chunk_id not in kept]
        fetched: dict[int, bytes] = {}
        if missing:
            chunks = await self._xtrace.get_chunk_by_id(sorted({*missing, *decoy_ids}), self._kb_id, self._fields)
            levels = dict(zip(candidates.chunk_ids, candidates.levels, strict=True))
            fetched = await asyncio.to_thread(self._proven, chunks, levels)
            await asyncio.to_thread(self._keep, fetched)
        return await asyncio.to_thread(_contents, {**kept, **fetched})

    async def verify(self, fetch: int | None = 0) -> LocalIndexReport:
        """Brings the index up to date, and compares it with all chunks that the service has.

        Also compares the contents that are kept, and `fetch` others, chosen at random, or all with None, with their
        rows.

        Raises `ChangedSinceSearch` if others keep changing the knowledge base, and what `synchronised` raises.
        """
        for _ in range(_ATTEMPTS):
            loaded = await self.synchronised()
            comparison = Comparison(self._xtrace, self._context, self._kb_id, self._fields, loaded, self._opened())
            try:
                if (report := await comparison.report(fetch)) is not None:
                    return report
            except Damaged:
                await self.clear()
        raise ChangedSinceSearch("others keep changing the knowledge base: verify the local index again later")

    async def share(self) -> SharedLocalIndex:
        """Brings the index up to date, and leaves a sealed copy on the service, unless that has one as new.

        Raises `PermissionDenied` without permission to write, `QuotaExceeded`, and what `synchronised` raises.
        """
        for _ in range(_ATTEMPTS):
            loaded = await self.synchronised()
            try:
                return await self._shared_index().share(loaded.state, loaded.count)
            except Damaged:  # or merged by another process
                await asyncio.to_thread(self._start_over_unless_changed)
            except OSError as error:
                raise _inaccessible(error) from None
        raise ChangedSinceSearch("other processes keep changing the local index: share it again later")

    async def clear(self) -> None:
        """Removes the file. The next search begins again. Raises `InaccessibleFile`."""
        async with self._lock:
            try:
                await asyncio.to_thread(self._start_over)
            except OSError as error:
                raise _inaccessible(error) from None

    def close(self) -> None:
        """Closes the file; the index can be used again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    # Each in a thread

    def _opened(self) -> IndexFile:
        if self._file is None:
            key = self._context.derived_key(self._name, self._kb_id)
            self._file = IndexFile(self.path, key, self._context.homomorphic.hedge)
            os.utime(self.path)  # used now
        return self._file

    def _shared_index(self) -> SharedIndex:
        kind = self._name.replace(" ", "-")
        return SharedIndex(self._xtrace, self._context, self._kb_id, kind, self._opened())

    def _start_over_unless_changed(self) -> None:
        with suppress(Damaged):
            if self._opened().state().generation != self._loaded.state.generation:
                return
        self._start_over()

    def _reload(self) -> None:
        """Reads what other processes changed. Raises `Damaged`, `OSError`."""
        state = self._opened().state()
        if state.generation != self._loaded.state.generation or not self._loaded.parts:
            self._loaded = Loaded.of(self._opened(), state, self._loaded)

    def _start_over(self) -> None:
        self.close()
        remove(self.path)
        self._loaded, self._asked_at = Loaded(State.empty(), []), -math.inf

    def _proven(self, chunks: Sequence[dict[str, Any]], levels: dict[int, bytes]) -> dict[int, bytes]:
        """The contents of fetched chunks by chunk, each of which has the code that was indexed."""
        found: dict[int, bytes] = {}
        for chunk in chunks:
            read = read_chunk(self._context, self._kb_id, chunk)
            code = code_of(read.content)
            expected = levels.get(chunk["chunk_id"], b"")
            if expected and (code is None or code.levels.tobytes() != expected):
                raise ChangedSinceSearch(
                    f"chunk {chunk['chunk_id']} was replaced after it was indexed here: search again",
                    chunk_id=chunk["chunk_id"],
                )
            found[chunk["chunk_id"]] = msgspec.msgpack.encode(read.kept)
        return found

    def _keep(self, contents: dict[int, bytes]) -> None:
        """Keeps what was fetched; another process may go first, then it is fetched again some time."""
        file = self._opened()
        if file.size > self._max_bytes:
            return
        with suppress(Outpaced, OSError), file.changing(self._loaded.state.generation):
            file.keep_contents(contents)

    # Keeping within bounds

    def _is_fresh(self, max_staleness: float) -> bool:
        state = self._loaded.state
        if not state.revisions or state.progress or not state.synchronised_at:
            return False
        age = time.time() - state.synchronised_at
        return (
            max_staleness == math.inf
            or 0 <= age < max_staleness
            or time.monotonic() - self._asked_at < max_staleness  # nothing had changed
        )

    async def _synchronise(self) -> None:
        before, asked_at = self._loaded.state.generation, time.monotonic()
        following = Synchroniser(
            self._xtrace,
            self._context,
            self._kb_id,
            self._opened(),
            self._loaded,
            self._fields,
            self._shared_index(),
        )
        try:
            await following.run(self._keeps)
        finally:
            self._loaded = following.loaded
        self._asked_at = asked_at
        if self._loaded.state.generation != before:
            await asyncio.to_thread(self._trim)
        if self._shares and self._loaded.state.unshared >= WORTH_SHARING:
            await self._share_in_passing()

    async def _share_in_passing(self) -> None:
        """Shares the index if that saves other clients much. What fails is tried again after as many chunks."""
        with suppress(XTraceError, Damaged):
            await self._shared_index().share(self._loaded.state, self._loaded.count, WORTH_SHARING)
        await asyncio.to_thread(self._count_from_here)

    def _count_from_here(self) -> None:
        state = self._loaded.state
        with suppress(Outpaced), self._opened().changing(state.generation):
            changed = replace(state, generation=state.generation + 1, unshared=0)
            self._opened().write_state(changed)
            self._loaded = Loaded(changed, self._loaded.parts)

    def _keeps(self, count: int) -> bool:
        """Whether an index of that many chunks keeps the contents that it reads."""
        is_replica = self._kind == "replica" or (self._kind in _BOUNDED and count <= REPLICA_CHUNKS)
        return is_replica and self._opened().size <= self._max_bytes

    def _trim(self) -> None:
        """Brings the folder below its size, as far as this index allows."""
        if self._opened().size > self._max_bytes:
            with self._opened().changing(self._loaded.state.generation):
                self._opened().drop_all_contents()
            self._opened().give_back()
        others = [one for one in indexes(self.folder) if one.path != self.path]
        total = self._opened().size + sum(one.size for one in others)
        for one in others:
            if total <= self._max_bytes:
                return
            total -= one.size
            remove(one.path)


def _inaccessible(error: OSError) -> InaccessibleFile:
    return InaccessibleFile(
        f'the local index cannot be kept: {error}; choose a folder with local_folder, or search with mode="service"'
    )


def _contents(kept: dict[int, bytes]) -> dict[int, tuple[dict[str, Any], Content]]:
    found: dict[int, tuple[dict[str, Any], Content]] = {}
    for chunk_id, packed in kept.items():
        one = msgspec.msgpack.decode(packed, type=KeptContent)
        times = {"created_at": one.created_at or None, "updated_at": one.updated_at or None}
        found[chunk_id] = {"chunk_id": chunk_id, **times, "meta_data": one.meta_data}, unpack(one.envelope)
    return found
