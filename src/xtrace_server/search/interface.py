"""What the search engine hands to a scanner, and what comes back.

The engine decides which rows a search is over, and makes immutable segments of them. A scanner computes the answers,
wherever it likes: beside the engine in threads, or in other processes, which know a segment by its name.
"""

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from xtrace_core.arithmetic import Rows
from xtrace_core.schemes.interface import Evaluation, Query
from xtrace_server.storage.schema import MAX_CHUNK_ID
from xtrace_server.storage.vectors import Keys

_T = TypeVar("_T")
Nonces: TypeAlias = Sequence[bytes | None]


def rows_bytes(count: int, row_bytes: int) -> int:
    """Returns about how much memory rows take, with a key and a nonce for each."""
    return count * (row_bytes + 64)


@dataclass(frozen=True, eq=False)
class Segment:
    """Some rows by ascending key: `pks` (n,) int64, `rows` (n, row length) uint8, `nonces` of n elements.

    They never change, so a scan finishes with the rows it started with.
    """

    pks: Keys
    rows: Rows
    nonces: tuple[bytes | None, ...]

    @property
    def nbytes(self) -> int:
        """About how much memory the segment takes."""
        return rows_bytes(len(self.pks), self.rows.shape[1])

    @cached_property
    def name(self) -> bytes:
        """A hash of the rows, under which a scanner elsewhere keeps them; computed when it is first asked for."""
        digest = hashlib.sha256(self.rows.shape[1].to_bytes(8, "little"))
        digest.update(np.ascontiguousarray(self.rows).data)
        return digest.digest()

    def take(self, wanted: NDArray[np.intp]) -> "Segment":
        """Returns a segment of the rows at these positions, copied."""
        if len(wanted) == len(self.pks):
            return self
        return Segment(self.pks[wanted], self.rows[wanted], tuple([self.nonces[i] for i in wanted.tolist()]))


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """Some rows of a segment, by their positions, which ascend. Copies nothing until it is asked."""

    segment: Segment
    positions: NDArray[np.intp] | range

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def chunk_ids(self) -> NDArray[np.int64]:
        """(n,) int64."""
        chunk_ids: NDArray[np.int64] = self.segment.pks[self._index] & MAX_CHUNK_ID
        return chunk_ids

    @property
    def rows(self) -> Rows:
        """(n, row length) uint8, contiguous."""
        return np.ascontiguousarray(self.segment.rows[self._index])

    @property
    def nonces(self) -> Nonces:
        """n elements."""
        if isinstance(self.positions, range):
            return self.segment.nonces[self.positions.start : self.positions.stop]
        return [self.segment.nonces[i] for i in self.positions.tolist()]

    def pieces(self, size: int) -> "Iterator[Selection]":
        """Yields the selection in pieces of at most `size` rows."""
        for start in range(0, len(self.positions), size):
            yield Selection(self.segment, self.positions[start : start + size])

    @property
    def _index(self) -> "NDArray[np.intp] | slice":
        if isinstance(self.positions, range):
            return slice(self.positions.start, self.positions.stop)
        return self.positions


def whole(segment: Segment) -> Selection:
    """Returns the selection of all rows."""
    return Selection(segment, range(len(segment.pks)))


@dataclass(frozen=True, slots=True)
class Computation:
    """What a search computes of every row. Depends on its fields only, so it can run anywhere."""

    evaluation: Evaluation
    queries: Sequence[Query]

    @property
    def answer_shape(self) -> tuple[int, int]:
        """How many ciphertexts answer the queries for each row, and the bytes of each."""
        return self.evaluation.answer_shape(self.queries)

    def __call__(self, rows: Rows) -> Rows:
        """Returns the answers to stored rows, in their order, `(n, count * width)` uint8."""
        return self.evaluation.evaluate(rows, self.queries)


class Scanner(Protocol):
    """Computes searches."""

    def scan(
        self,
        selections: AsyncIterator[Selection | None],
        computation: Computation,
        finish: Callable[[Selection, Rows], _T],
    ) -> AsyncGenerator[_T, None]:
        """Yields what `finish` makes of each selection and its answers, in their order, off the event loop.

        None among the selections says that the next one is not there yet, so that those before it can go out. Closing
        the generator stops the scan.
        """
        ...

    def close(self) -> None:
        """Stops every scan."""
        ...


class AnswerForm(Protocol):
    """How the answer to a search is written down; runs in any thread."""

    media_type: ClassVar[str]

    def head(self, rows: int) -> bytes:
        """Returns what comes before the first of `rows` rows."""
        ...

    def block(self, chunk_ids: NDArray[np.int64], answers: Rows, nonces: Nonces) -> bytes:
        """Returns some rows of the answer; `answers` holds their ciphertexts at full width."""
        ...

    def end(self) -> bytes:
        """Returns what comes after the last row."""
        ...
