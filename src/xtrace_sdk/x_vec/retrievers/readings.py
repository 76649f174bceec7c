"""What a search by blocks read: distances that only the service vouches for, until the records confirm them."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xtrace_sdk.errors import ChangedSinceSearch, InvalidAnswer, InvalidRows
from xtrace_sdk.x_vec.schemes.interface import HomomorphicClient

MAX_BYTES: Final = 1 << 25
"""The memory for the distances of all candidates; those of the latest searches are kept."""


class Expected(NamedTuple):
    """The distance that a fetched chunk must have."""

    position: int
    """The chunk's place among those fetched."""
    query: NDArray[np.uint8]
    distance: int
    before: datetime
    """A moment on the service's clock shortly before the search."""


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """The distances of all candidates of one search by blocks."""

    chunk_ids: NDArray[np.int64]
    """The candidates, ascending."""
    queries: NDArray[np.uint8]
    """Their bits, `(queries, embed_len)`."""
    distances: NDArray[np.uint16]
    """`(queries, candidates)`"""
    before: datetime
    """A moment on the service's clock shortly before the search."""

    @property
    def size(self) -> int:
        """The bytes that keeping it takes."""
        return self.chunk_ids.nbytes + self.distances.nbytes

    def expected(self, chunk_ids: NDArray[np.int64]) -> Iterator[Expected]:
        """Yields the distances to every query of those chunks that were candidates."""
        places = np.searchsorted(self.chunk_ids, chunk_ids).tolist()
        for position, (chunk_id, place) in enumerate(zip(chunk_ids.tolist(), places, strict=True)):
            if place < len(self.chunk_ids) and self.chunk_ids[place] == chunk_id:
                for query, distances in zip(self.queries, self.distances, strict=True):
                    yield Expected(position, query, int(distances[place]), self.before)


@dataclass(slots=True, eq=False)
class Readings:
    """The readings of one search, for at most eight queries each. They can be forgotten."""

    parts: Sequence[Reading]
    before: datetime
    """The earliest moment of the parts."""
    is_forgotten: bool = False

    @classmethod
    def of(cls, parts: Sequence[Reading]) -> "Readings":
        """Returns the readings of at least one part."""
        return cls(parts, min(part.before for part in parts))

    @property
    def size(self) -> int:
        """The bytes that keeping them takes."""
        return sum(part.size for part in self.parts)

    def forget(self) -> None:
        """Drops the distances."""
        self.parts, self.is_forgotten = (), True


class RememberedReadings:
    """The latest readings; older ones are told to forget."""

    def __init__(self) -> None:
        self._latest: deque[Readings] = deque()
        self._size = 0

    def add(self, readings: Readings) -> None:
        """Remembers the readings of another search."""
        self._latest.append(readings)
        self._size += readings.size
        while self._size > MAX_BYTES and len(self._latest) > 1:
            oldest = self._latest.popleft()
            self._size -= oldest.size
            oldest.forget()


def check_records(client: HomomorphicClient, chunks: Sequence[Mapping[str, Any]], expected: Sequence[Expected]) -> None:
    """Checks the records of fetched chunks, all in the same way, and then raises for the first bad one.

    Raises `ChangedSinceSearch` if a chunk with another distance was written after the search, else `InvalidRows`, which
    names the chunks.
    """
    if not expected:
        return
    bits, valid = client.decrypt_vec_batch([one["index"] for one in chunks], [one.get("nonce") for one in chunks])
    positions = np.array([one.position for one in expected])
    distances = (bits[positions] != np.stack([one.query for one in expected])).sum(axis=1)
    wrong = ~valid[positions] | (distances != np.array([one.distance for one in expected]))
    bad = [expected[i] for i in np.flatnonzero(wrong).tolist()]
    changed = [one for one in bad if _is_later(chunks[one.position]["updated_at"], one.before)]
    unchanged = sorted({one.position for one in bad} - {one.position for one in changed})
    if unchanged:
        raise InvalidRows(unchanged, [chunks[i]["chunk_id"] for i in unchanged])
    if changed:
        chunk_id = chunks[changed[0].position]["chunk_id"]
        raise ChangedSinceSearch(f"chunk {chunk_id} was replaced since it was found: search again", chunk_id=chunk_id)


def _is_later(updated_at: str, moment: datetime) -> bool:
    try:
        updated = datetime.fromisoformat(updated_at)
    except ValueError:
        raise InvalidAnswer("the server returned a chunk whose updated_at is not a time") from None
    return (updated if updated.tzinfo is not None else updated.replace(tzinfo=UTC)) >= moment
