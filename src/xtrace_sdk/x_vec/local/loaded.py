"""The local index in memory: which chunks answer a question best, by words and by vectors."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xtrace_core.secrecy import Secretive
from xtrace_sdk.x_vec.local.bm25 import Scores, bm25
from xtrace_sdk.x_vec.local.codec import Query, cosines
from xtrace_sdk.x_vec.local.index_file import IndexFile
from xtrace_sdk.x_vec.local.segment import Segment
from xtrace_sdk.x_vec.local.state import State

_MASKS: Final = 8
"""How many filters' masks are remembered."""
MAX_RARE: Final = 200
"""The most rows that enter for a rare token alone."""

Mask = NDArray[np.bool_]
Allowed = Callable[[Segment], Mask]
"""Which rows of a segment may be found."""


class Part(NamedTuple):
    """A segment in memory."""

    segment: Segment
    alive: Mask


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Candidates:
    """What a question found, not yet read: one element a chunk, in no order that matters."""

    chunk_ids: list[int]
    word_scores: NDArray[np.float32]
    """BM25; 0 for chunks that vectors found."""
    levels: list[bytes]
    """The code of each chunk, which its content must prove; empty without one."""


class Loaded(Secretive):
    """The segments of one generation of an index. Immutable, so that searches may read it while another is loaded."""

    __slots__ = ("_lock", "_masks", "parts", "state")

    def __init__(self, state: State, parts: Sequence[Part]) -> None:
        self.state = state
        self.parts = list(parts)
        self._lock = threading.Lock()
        self._masks: dict[str, list[Mask]] = {}

    @classmethod
    def of(cls, file: IndexFile, state: State, before: "Loaded | None" = None) -> "Loaded":
        """Reads what is not in memory yet. Raises `Damaged`."""
        known = {} if before is None else before._segments()
        parts = []
        for entry in state.segments:
            segment = known.get(entry.digest) or file.segment(entry)
            parts.append(Part(segment, entry.alive()))
        return cls(state, parts)

    def _segments(self) -> dict[bytes, Segment]:
        return {entry.digest: part.segment for entry, part in zip(self.state.segments, self.parts, strict=True)}

    @property
    def count(self) -> int:
        """How many chunks it has."""
        return sum(int(part.alive.sum()) for part in self.parts)

    @property
    def chunk_ids(self) -> NDArray[np.int64]:
        """The ids of its chunks, ascending."""
        return self._ids(lambda segment: np.ones(len(segment), np.bool_))

    @property
    def vector_ids(self) -> NDArray[np.int64]:
        """The ids of its chunks with a vector, ascending: the candidates of a search without a filter."""
        return self._ids(lambda segment: segment.has_vector)

    def _ids(self, decide: Allowed) -> NDArray[np.int64]:
        found = [part.segment.chunk_ids[part.alive & decide(part.segment)] for part in self.parts]
        return np.sort(np.concatenate(found)) if found else np.empty(0, np.int64)

    def allowed(self, key: str, decide: Allowed) -> list[Mask]:
        """Which rows of each segment count and may be found; remembered under the key."""
        with self._lock:
            if (known := self._masks.get(key)) is not None:
                return known
        masks = [part.alive & decide(part.segment) for part in self.parts]
        with self._lock:
            if len(self._masks) >= _MASKS:
                self._masks.pop(next(iter(self._masks)))
            self._masks[key] = masks
        return masks

    def candidates(
        self, wanted: Query | None, nearest: int, question: Sequence[str], by_words: int, allowed: Sequence[Mask]
    ) -> Candidates:
        """The chunks with the highest estimated cosine, those that answer best by words, and those with rare tokens.

        Without a query, or without tokens, that half finds nothing.
        """
        chosen: list[NDArray[np.int64]] = []
        words = None
        if wanted is not None:
            chosen.append(_best(self._cosines(wanted, allowed), nearest))
        if question and self.parts:
            words = bm25(question, [part.segment.words for part in self.parts], allowed)
            chosen += _by_words(words, by_words)
        places = np.unique(np.concatenate(chosen)) if chosen else np.empty(0, np.int64)
        return self._at(places, words)

    def needs_service(self, allowed: Sequence[Mask]) -> int:
        """How many of the allowed rows have a vector without a copy, which only the service can compare."""
        return sum(
            int((part.segment.needs_service & mask).sum()) for part, mask in zip(self.parts, allowed, strict=True)
        )

    def _cosines(self, wanted: Query, allowed: Sequence[Mask]) -> NDArray[np.float32]:
        """The estimates of all rows; −∞ for those that may not be found or lack a code."""
        width = len(wanted.elements)
        found = [np.empty(0, np.float32)]
        for part, mask in zip(self.parts, allowed, strict=True):
            codes = part.segment.codes
            if 2 * codes.levels.shape[1] != width:  # no row has a vector
                found.append(np.full(len(mask), -np.inf, np.float32))
            else:
                found.append(np.where(mask & (codes.factors > 0), cosines(codes, wanted), np.float32(-np.inf)))
        return np.concatenate(found)

    def _at(self, places: NDArray[np.int64], words: Scores | None) -> Candidates:
        """The candidates at places over all segments, ascending."""
        starts = np.concatenate(([0], np.cumsum([len(part.alive) for part in self.parts]))).astype(np.int64)
        chunk_ids, levels = [], []
        for place in places.tolist():
            number = int(np.searchsorted(starts, place, "right")) - 1
            segment, row = self.parts[number].segment, place - int(starts[number])
            chunk_ids.append(int(segment.chunk_ids[row]))
            levels.append(segment.codes.levels[row].tobytes() if segment.codes.factors[row] > 0 else b"")
        scores = np.zeros(len(places), np.float32) if words is None else words.scores[places]
        return Candidates(chunk_ids, scores, levels)


def _best(scores: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """The places of the highest scores that are not −∞, in no order; ties go to the first places."""
    if count < len(scores):
        # Of equal scores at the edge the partition takes any: those above it are certain, the rest goes by place.
        edge = np.partition(scores, len(scores) - count)[len(scores) - count]
        above = np.flatnonzero(scores > edge)
        chosen = np.concatenate((above, np.flatnonzero(scores == edge)[: count - len(above)]))
    else:
        chosen = np.arange(len(scores))
    return chosen[scores[chosen] > -np.inf]


def _by_words(words: Scores, count: int) -> list[NDArray[np.int64]]:
    """The places that answer best by words, and those with rare tokens, the best of these first."""
    scores = np.where(words.scores > 0, words.scores, np.float32(-np.inf))
    rare = np.where(words.has_rare, scores, np.float32(-np.inf))
    return [_best(scores, count), _best(rare, MAX_RARE)]
