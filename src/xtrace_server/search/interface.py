"""The interface between the search engine and a scanner.

The engine selects the rows of a search as immutable segments. A scanner computes the answers: in threads of this
process, or in other processes, which know a segment by its name.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from xtrace_core.arithmetic import Rows
from xtrace_core.schemes.interface import Evaluation, Query
from xtrace_server.search.segment_names import packed_nonces, segment_name
from xtrace_server.storage.schema import MAX_CHUNK_ID
from xtrace_server.storage.vectors import Keys

_T = TypeVar("_T")
Nonces: TypeAlias = Sequence[bytes | None]


def rows_bytes(count: int, row_bytes: int) -> int:
    """Returns the approximate memory of rows, with a key and a nonce for each."""
    return count * (row_bytes + 64)


@dataclass(frozen=True, eq=False)
class Segment:
    """Some rows by ascending key: `pks` (n,) int64, `rows` (n, row length) uint8, `nonces` of n elements.

    They never change, so a scan ends with the rows with which it started.
    """

    pks: Keys
    rows: Rows
    nonces: tuple[bytes | None, ...]

    @property
    def row_bytes(self) -> int:
        """The length of each row."""
        return int(self.rows.shape[1])

    @property
    def nbytes(self) -> int:
        """The approximate memory of the segment."""
        return rows_bytes(len(self.pks), self.row_bytes)

    @cached_property
    def name(self) -> bytes:
        """The hash of the rows and nonces, which names them elsewhere; computed on first use."""
        return segment_name(self.rows, packed_nonces(self.nonces))

    def take(self, wanted: NDArray[np.intp]) -> "Segment":
        """Returns a segment with copies of the rows at these positions."""
        if len(wanted) == len(self.pks):
            return self
        return Segment(self.pks[wanted], self.rows[wanted], tuple([self.nonces[i] for i in wanted.tolist()]))


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Where rows are held: in the segment of this name, all of them or those at the ascending `positions`."""

    name: bytes
    positions: NDArray[np.int32] | None = None

    def take(self, wanted: NDArray[np.intp]) -> "Place":
        """Returns the place of some of the rows."""
        positions = wanted.astype(np.int32) if self.positions is None else self.positions[wanted]
        return Place(self.name, positions)


Reload: TypeAlias = Callable[[Keys], Awaitable[Segment]]
"""Reads the rows with these keys again. Raises `Unavailable` if one of them has changed since."""


class HeldSegment:
    """Rows that a scanner holds elsewhere; only their keys, (n,) int64, are in this process."""

    def __init__(self, pks: Keys, row_bytes: int, place: Place, reload: Reload, whole: int | None = None) -> None:
        """`whole` is the number of rows that are held under the name; by default, the number of these rows."""
        self.pks = pks
        self.row_bytes = row_bytes
        self.place = place
        """Changes after the rows were lost and stored again."""
        self.reload = reload
        self.whole = len(pks) if whole is None else whole
        self.restoring = asyncio.Lock()
        """Held while lost rows are stored again."""

    @property
    def nbytes(self) -> int:
        """The approximate memory of the segment in this process."""
        positions = self.place.positions
        return 512 + self.pks.nbytes + (0 if positions is None else positions.nbytes)

    def take(self, wanted: NDArray[np.intp]) -> "HeldSegment":
        """Returns a segment of the rows at these positions. The others stay where they are held."""
        if len(wanted) == len(self.pks):
            return self
        return HeldSegment(self.pks[wanted], self.row_bytes, self.place.take(wanted), self.reload, self.whole)


AnySegment: TypeAlias = Segment | HeldSegment


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """Some rows of a segment, by their ascending positions. Copies nothing until its rows are used."""

    segment: AnySegment
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
        """(n, row length) uint8, contiguous. Raises `TypeError` for rows that are held elsewhere."""
        return np.ascontiguousarray(self._here.rows[self._index])

    @property
    def nonces(self) -> Nonces:
        """n elements. Raises `TypeError` for rows that are held elsewhere."""
        nonces = self._here.nonces
        if isinstance(self.positions, range):
            return nonces[self.positions.start : self.positions.stop]
        return [nonces[i] for i in self.positions.tolist()]

    @property
    def _here(self) -> Segment:
        if isinstance(self.segment, HeldSegment):
            raise TypeError("the rows are held elsewhere, and only a scanner that has them computes with them")
        return self.segment

    def pieces(self, size: int) -> "Iterator[Selection]":
        """Yields the selection in pieces of at most `size` rows."""
        for start in range(0, len(self.positions), size):
            yield Selection(self.segment, self.positions[start : start + size])

    @property
    def _index(self) -> "NDArray[np.intp] | slice":
        if isinstance(self.positions, range):
            return slice(self.positions.start, self.positions.stop)
        return self.positions


def whole(segment: AnySegment) -> Selection:
    """Returns the selection of all rows."""
    return Selection(segment, range(len(segment.pks)))


@dataclass(frozen=True, slots=True)
class Computation:
    """What a search computes for every row. Depends only on its fields, so it can run anywhere."""

    evaluation: Evaluation
    queries: Sequence[Query]

    @property
    def answer_shape(self) -> tuple[int, int]:
        """The number of ciphertexts that answer the queries for each row, and the size of each."""
        return self.evaluation.answer_shape(self.queries)

    def __call__(self, rows: Rows) -> Rows:
        """Returns the answers for stored rows, in order, `(n, count * width)` uint8."""
        return self.evaluation.evaluate(rows, self.queries)


Finish: TypeAlias = Callable[[Selection, Rows, Nonces], _T]
"""Processes a selection, its answers and its nonces; runs in any thread."""


class Scanner(Protocol):
    """Computes searches."""

    @property
    def remote(self) -> "Remote | None":
        """The holder of rows outside this process, if any."""
        ...

    async def start(self) -> None:
        """Starts the scanner."""
        ...

    def scan(
        self, selections: AsyncIterator[Selection | None], computation: Computation, finish: Finish[_T]
    ) -> AsyncGenerator[_T, None]:
        """Yields the result of `finish` for each selection and its answers, in order; runs outside the event loop.

        None among the selections means that the next one has not arrived, so that earlier ones can be sent. Closing the
        generator stops the scan. Raises `Unavailable` if rows that are held elsewhere cannot be reached.
        """
        ...

    async def close(self) -> None:
        """Stops every scan."""
        ...


class Remote(Protocol):
    """Holds segments of large knowledge bases outside this process."""

    @property
    def segment_rows(self) -> int:
        """The number of consecutive chunk ids that a segment covers."""
        ...

    @property
    def nodes(self) -> int:
        """The number of machines that hold segments."""
        ...

    @property
    def held_bytes(self) -> int:
        """The bytes that all of them hold, for all servers."""
        ...

    def wants(self, rows: int, ids: int) -> bool:
        """Returns whether to hold a knowledge base there that has `rows` chunks and has assigned `ids` ids so far."""
        ...

    async def hold(self, segment: Segment) -> Place:
        """Stores the rows there, and returns their place. Raises `Unavailable`."""
        ...


class AnswerForm(Protocol):
    """The format of a search's answer; runs in any thread."""

    media_type: ClassVar[str]

    def head(self, rows: int) -> bytes:
        """Returns what comes before the first of `rows` rows."""
        ...

    def block(self, chunk_ids: NDArray[np.int64], answers: Rows, nonces: Nonces) -> bytes:
        """Returns some rows of the answer; `answers` contains their ciphertexts at full width."""
        ...

    def end(self) -> bytes:
        """Returns what comes after the last row."""
        ...
