"""What a folder knows of a knowledge base: up to which revision it is synchronised, and which rows count."""

from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

VERSION: Final = 2


class Progress(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """A synchronisation with one context's chunks that is not finished."""

    revision: int
    """The revision of the knowledge base when it began."""
    after: int
    """The last chunk that was applied."""


class SegmentEntry(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """A segment, and which of its rows are dead: replaced or deleted since."""

    digest: bytes
    """SHA-256 of the sealed segment, which names it."""
    size: int
    """Bytes of the sealed segment."""
    rows: int
    dead: bytes
    """A bit a row, the first one highest."""

    def alive(self) -> NDArray[np.bool_]:
        """`(rows,)`: which rows count."""
        return ~np.unpackbits(np.frombuffer(self.dead, np.uint8), count=self.rows).astype(np.bool_)

    def with_alive(self, alive: NDArray[np.bool_]) -> "SegmentEntry":
        """The entry with other rows that count."""
        return SegmentEntry(self.digest, self.size, self.rows, np.packbits(~alive).tobytes())


class State(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """The state of an index, which is sealed and replaced whole."""

    version: int
    generation: int
    """Grows with every change, so that several processes notice each other's."""
    dim: int
    revisions: dict[str, int]
    """By context: everything up to this revision is applied."""
    progress: dict[str, Progress]
    synchronised_at: float
    """Unix time of the last complete synchronisation, 0 for never."""
    unshared: int
    """How many chunks were read from their contents since it was last considered to share the index."""
    segments: list[SegmentEntry]

    @classmethod
    def empty(cls) -> "State":
        """The state of a new index."""
        return cls(VERSION, 0, 0, {}, {}, 0.0, 0, [])
