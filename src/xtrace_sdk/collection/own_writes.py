"""Tracks a collection's own recent writes, so that its searches do not mistake them for tampering."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class OwnWrites:
    """The writes of one collection in progress, and those that happen during its searches."""

    def __init__(self) -> None:
        self._under_way = 0
        self._watching: list[set[int]] = []

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Marks a write as in progress while the block runs."""
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1

    def note(self, chunk_ids: Iterable[int]) -> None:
        """Records that these chunks were written."""
        ids = list(chunk_ids)
        for seen in self._watching:
            seen.update(ids)

    @contextmanager
    def watching(self) -> Iterator[set[int]]:
        """Collects the ids of the chunks that are written while the block runs."""
        seen: set[int] = set()
        self._watching.append(seen)
        try:
            yield seen
        finally:
            # By identity, because two searches may have seen the same chunks.
            self._watching = [one for one in self._watching if one is not seen]

    @property
    def is_writing(self) -> bool:
        """Whether a write is in progress whose changed chunks are not yet known."""
        return self._under_way > 0
