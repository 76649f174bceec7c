"""The rows of a binding in memory: immutable segments, so that a scan ends with the rows with which it started.

A change creates a new set that shares every unchanged segment.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from xtrace_server.search.interface import AnySegment, HeldSegment, Segment, Selection, whole
from xtrace_server.storage.vectors import Keys, VectorBlock

SEGMENT_ROWS = 8192


@dataclass(frozen=True, slots=True)
class VectorSet:
    """Segments by ascending key, none empty, as of one revision of their knowledge base."""

    revision: int
    segments: tuple[AnySegment, ...]

    def __len__(self) -> int:
        return sum([len(segment.pks) for segment in self.segments])

    @property
    def held(self) -> bool:
        """Whether some of its rows are held outside this process."""
        return any(isinstance(segment, HeldSegment) for segment in self.segments)

    @property
    def here(self) -> tuple[Segment, ...]:
        """The segments whose rows are in this process."""
        return tuple([segment for segment in self.segments if isinstance(segment, Segment)])

    @property
    def nbytes(self) -> int:
        """The approximate memory of the set."""
        return sum([segment.nbytes for segment in self.segments])

    def between(self, first: int, last: int) -> list[Selection]:
        """Returns the rows whose keys are in the range, both ends included."""
        found = []
        for segment in self.segments:
            if first <= segment.pks[0] and segment.pks[-1] <= last:
                found.append(whole(segment))
                continue
            start, end = np.searchsorted(segment.pks, [first, last + 1])
            if start < end:
                found.append(Selection(segment, range(int(start), int(end))))
        return found

    def only(self, pks: Sequence[int] | Keys) -> list[Selection]:
        """Returns the rows with these ascending keys; unknown ones are omitted."""
        keys = np.asarray(pks, dtype=np.int64)
        found = []
        for segment in self.segments:
            inside = keys[np.searchsorted(keys, segment.pks[0]) : np.searchsorted(keys, segment.pks[-1], "right")]
            positions = np.searchsorted(segment.pks, inside)
            positions = positions[segment.pks[positions] == inside]
            if len(positions):
                found.append(Selection(segment, positions))
        return found

    def without(self, pks: Keys) -> "VectorSet":
        """Returns the set without the rows with these keys."""
        if not len(pks):
            return self
        kept = []
        for segment in self.segments:
            positions = np.flatnonzero(~np.isin(segment.pks, pks))
            if len(positions):
                kept.append(segment.take(positions))
        return VectorSet(self.revision, tuple(kept))

    def kept(self, pks: Keys) -> "VectorSet":
        """Returns the set of its rows with these ascending keys."""
        found = self.only(pks)
        return VectorSet(self.revision, tuple([one.segment.take(np.asarray(one.positions)) for one in found]))

    def merged(self, newer: "VectorSet") -> "VectorSet":
        """Merges both sets as of `newer.revision`; for a key in both, uses the newer row. Only for rows in this
        process."""
        if not newer.segments:
            return VectorSet(newer.revision, self.segments)
        added = np.concatenate([segment.pks for segment in newer.segments])
        old = self.without(added) if self.segments and added[0] <= self.segments[-1].pks[-1] else self
        segments = [*old.here, *newer.here]
        if old.segments and newer.segments[0].pks[0] < old.segments[-1].pks[-1]:
            return VectorSet(newer.revision, _packed(sorted_segments(segments)))
        # Only the last one is small: repacking it costs at most one segment.
        untouched = max(len(old.segments) - 1, 0)
        return VectorSet(newer.revision, tuple(segments[:untouched]) + _packed(segments[untouched:]))


def vector_set(revision: int, blocks: Iterable[VectorBlock], row_bytes: int) -> VectorSet:
    """Returns the set of the rows in the ascending blocks."""
    return VectorSet(revision, _packed([segment_of(block, row_bytes) for block in blocks if block.pks]))


async def segments_of(blocks: AsyncIterator[VectorBlock], row_bytes: int) -> AsyncIterator[Segment]:
    """Yields the blocks as segments."""
    async for block in blocks:
        yield segment_of(block, row_bytes)


def segment_of(block: VectorBlock, row_bytes: int) -> Segment:
    """Returns the block as a segment."""
    rows = np.frombuffer(b"".join(block.rows), dtype=np.uint8).reshape(len(block.pks), row_bytes)
    return Segment(np.array(block.pks, dtype=np.int64), rows, tuple(block.nonces))


def sorted_segments(segments: Sequence[Segment]) -> list[Segment]:
    """Merges the rows of all into one segment, by ascending key."""
    together = joined(segments)
    order = np.argsort(together.pks)
    return [Segment(together.pks[order], together.rows[order], tuple([together.nonces[i] for i in order]))]


def _packed(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """Yields the rows in segments of `SEGMENT_ROWS`, and the rest in the last one."""
    packed: list[Segment] = []
    waiting: list[Segment] = []
    count = 0
    for segment in segments:
        start = 0
        while start < len(segment.pks):
            part = slice(start, start + SEGMENT_ROWS - count)
            piece = Segment(segment.pks[part], segment.rows[part], segment.nonces[part])
            waiting.append(piece)
            count += len(piece.pks)
            start += len(piece.pks)
            if count == SEGMENT_ROWS:
                packed.append(joined(waiting))
                waiting, count = [], 0
    if waiting:
        packed.append(joined(waiting))
    return tuple(packed)


def joined(segments: Sequence[Segment]) -> Segment:
    """Concatenates the rows of all, whose keys ascend, into one segment."""
    if len(segments) == 1:
        # A slice keeps the whole underlying array alive.
        only = segments[0]
        return only if only.rows.base is None else Segment(only.pks.copy(), only.rows.copy(), only.nonces)
    return Segment(
        np.concatenate([segment.pks for segment in segments]),
        np.concatenate([segment.rows for segment in segments]),
        tuple([nonce for segment in segments for nonce in segment.nonces]),
    )
