"""A search with known candidates, which computes while its answer is read."""

import math
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass

from xtrace_core.arithmetic import Rows
from xtrace_server.metrics import Metrics
from xtrace_server.search.interface import AnswerForm, Computation, Nonces, Scanner, Selection

BLOCK_BYTES = 256 * 1024
"""The number of bytes of answers that one step of a scan computes."""


@dataclass(frozen=True, slots=True)
class Found:
    """The candidates of a search: their number, and their places (None when the next must be awaited).

    `release` frees their memory; it is called once.
    """

    count: int
    selections: AsyncIterator[Selection | None]
    release: Callable[[], None] = lambda: None


class Search:
    """A search with one or several queries: `count` rows, and the blocks of the answer, which can be read once."""

    def __init__(self, computation: Computation, found: Found, scanner: Scanner, metrics: Metrics) -> None:
        self.count = found.count
        self.answer_shape = computation.answer_shape
        """The number of ciphertexts that answer the queries for each row, and the size of each."""
        self._computation = computation
        self._selections = found.selections
        self._scanner = scanner
        self._metrics = metrics
        # However the search ends, its memory is freed once nothing more can be read from it.
        self._release = weakref.finalize(self, found.release)
        self._release.atexit = False

    @property
    def answer_bytes(self) -> int:
        """The number of bytes of ciphertexts in the whole answer."""
        return self.count * math.prod(self.answer_shape)

    async def blocks(self, form: AnswerForm) -> AsyncGenerator[bytes, None]:
        """Yields the rows of the answer in this format, without head and end. Closing it stops the scan."""

        def write(piece: Selection, answers: Rows, nonces: Nonces) -> bytes:
            self._metrics.candidates.inc(len(piece))
            return form.block(piece.chunk_ids, answers, nonces)

        try:
            async with aclosing(self._scanner.scan(self._pieces(), self._computation, write)) as blocks:
                async for block in blocks:
                    yield block
        finally:
            self._release()

    async def _pieces(self) -> AsyncIterator[Selection | None]:
        size = max(BLOCK_BYTES // math.prod(self.answer_shape), 1)
        async for selection in self._selections:
            if selection is None:
                yield None
                continue
            for piece in selection.pieces(size):
                yield piece
