"""Compares a local index with all that the service has, instead of with what it says has changed."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from xtrace_core.secrecy import Secretive
from xtrace_core.wire import MAX_CHANGES
from xtrace_sdk.service.integration import XTraceIntegration
from xtrace_sdk.x_vec.chunks.envelope import unpack
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.local.index_file import IndexFile
from xtrace_sdk.x_vec.local.loaded import Loaded
from xtrace_sdk.x_vec.local.segment import Row, Segment
from xtrace_sdk.x_vec.local.synchronising import KeptContent, read_chunk, row_of

_AT_ONCE: Final = 2000


@dataclass(frozen=True, slots=True)
class LocalIndexReport:
    """What a comparison of a local index with the service found."""

    chunks: int
    """How many chunks the index has."""
    contents: int
    """How many contents were compared with their rows."""
    missing: tuple[int, ...] = ()
    """Chunks that the service has and the index lacks: the service did not tell of them."""
    surplus: tuple[int, ...] = ()
    """Chunks that the index has and the service lacks: the service did not tell that they are gone."""
    wrong: tuple[int, ...] = ()
    """Chunks whose content does not lead to what the index says of them."""

    @property
    def is_good(self) -> bool:
        """Whether nothing differs."""
        return not (self.missing or self.surplus or self.wrong)


class Stored(NamedTuple):
    """What the service has."""

    chunk_ids: set[int]
    revisions: set[int]
    """The revisions of the knowledge base that its answers named: one unless it changed meanwhile."""


class Comparison(Secretive):
    """Compares one state of an index with the service."""

    __slots__ = ("_context", "_fields", "_file", "_kb_id", "_loaded", "_xtrace")

    def __init__(
        self,
        xtrace: XTraceIntegration,
        context: ExecutionContext,
        kb_id: str,
        fields: Sequence[str],
        loaded: Loaded,
        file: IndexFile,
    ) -> None:
        """`fields` are what is fetched of each chunk."""
        self._xtrace = xtrace
        self._context = context
        self._kb_id = kb_id
        self._fields = fields
        self._loaded = loaded
        self._file = file

    async def report(self, fetch: int | None) -> LocalIndexReport | None:
        """What differs; None if the knowledge base changed meanwhile.

        `fetch` contents are fetched and compared, chosen at random, or all with None, besides those that are kept.
        Raises `Damaged`, `ContentTampered`, and what `XTraceIntegration` raises.
        """
        revisions = {self._loaded.state.revisions.get(one.id, 0) for one in self._context.lineage}
        stored = await self._stored()
        if stored.revisions != revisions:
            return None
        kept, wrong = await self._compare_contents(fetch)
        if fetch != 0 and (await self._stored(limit=1)).revisions != revisions:
            return None
        indexed = self._loaded.chunk_ids
        known: NDArray[np.int64] = np.array(sorted(stored.chunk_ids), np.int64)
        return LocalIndexReport(
            len(indexed),
            kept,
            tuple(np.setdiff1d(known, indexed).tolist()),
            tuple(np.setdiff1d(indexed, known).tolist()),
            tuple(sorted(wrong)),
        )

    async def _stored(self, limit: int = MAX_CHANGES) -> Stored:
        """Asks for all chunks under the context and its predecessors; with a lower limit, for the revision."""
        found, revisions = set[int](), set[int]()
        for one in self._context.lineage:
            after, has_more = 0, True
            while has_more:
                page = await self._xtrace.local_changes(self._kb_id, one.id, 0, after, limit)
                counts = one.accepted.ids(self._kb_id, page.chunk_ids).tolist()
                found.update(chunk_id for chunk_id, does in zip(page.chunk_ids, counts, strict=True) if does)
                revisions.add(page.revision)
                after, has_more = page.chunk_ids[-1] if page.chunk_ids else after, page.has_more and limit > 1
        return Stored(found, revisions)

    async def _compare_contents(self, fetch: int | None) -> tuple[int, list[int]]:
        """How many contents were compared, and which chunks have others than their rows say."""
        contents, wrong = 0, list[int]()
        chosen = self._chosen(fetch)
        for segment, alive in self._loaded.parts:
            rows = np.flatnonzero(alive)
            for start in range(0, len(rows), _AT_ONCE):
                places = {int(segment.chunk_ids[row]): row for row in rows[start : start + _AT_ONCE].tolist()}
                kept = await asyncio.to_thread(self._kept, segment, places)
                wanted = sorted(chosen.intersection(places).difference(kept))
                for chunk in await self._xtrace.get_chunk_by_id(wanted, self._kb_id, self._fields) if wanted else ():
                    read = read_chunk(self._context, self._kb_id, chunk)
                    kept[chunk["chunk_id"]] = row_of(self._context, chunk["chunk_id"], read)
                contents += len(kept)
                wrong += await asyncio.to_thread(_wrong, segment, places, kept)
        return contents, wrong

    def _chosen(self, fetch: int | None) -> set[int]:
        indexed = self._loaded.chunk_ids.tolist()
        if fetch is None or fetch >= len(indexed):
            return set(indexed)
        return set(random.SystemRandom().sample(indexed, fetch))

    def _kept(self, segment: Segment, places: Mapping[int, int]) -> dict[int, Row]:
        """The rows that the kept contents of chunks lead to."""
        found = dict[int, Row]()
        for chunk_id, packed in self._file.contents(list(places)).items():
            kept = msgspec.msgpack.decode(packed, type=KeptContent)
            origin = int(segment.origins[places[chunk_id]])
            found[chunk_id] = Row(chunk_id, origin, unpack(kept.envelope), kept.meta_data)
        return found


def _wrong(segment: Segment, places: Mapping[int, int], rows: Mapping[int, Row]) -> list[int]:
    """The chunks whose rows in the segment are not those of their contents."""
    if not rows:
        return []
    among = np.zeros(len(segment), np.bool_)
    among[[places[chunk_id] for chunk_id in rows]] = True
    indexed = Segment.merged([segment], [among])
    ordered = [rows[chunk_id] for chunk_id in indexed.chunk_ids.tolist()]
    if Segment.of(ordered, segment.dim).to_bytes() == indexed.to_bytes():
        return []
    return [
        row.chunk_id
        for place, row in enumerate(ordered)
        if Segment.of([row], segment.dim).to_bytes()
        != Segment.merged([indexed], [np.arange(len(ordered)) == place]).to_bytes()
    ]
