"""A search whose candidates are known, and that computes while its answer is read."""

import math
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass

from xtrace_core.arithmetic import Rows
from xtrace_server.metrics import Metrics
from xtrace_server.search.interface import AnswerForm, Computation, Nonces, Scanner, Selection

BLOCK_BYTES = 256 * 1024
"""How many bytes of answers one step of a scan computes."""


@dataclass(frozen=True, slots=True)
class Found:
    """The candidates of a search: how many there are, and where (None where the next must be waited for).

    `release` frees what they hold; it is called once.
    """

    count: int
    selections: AsyncIterator[Selection | None]
    release: Callable[[], None] = lambda: None


class Search:
    """A search with one query or several: `count` rows, and the blocks of the answer, which come once."""

    def __init__(self, computation: Computation, found: Found, scanner: Scanner, metrics: Metrics) -> None:
        self.count = found.count
        self.answer_shape = computation.answer_shape
        """How many ciphertexts answer the queries for each row, and the bytes of each."""
        self._computation = computation
        self._selections = found.selections
        self._scanner = scanner
        self._metrics = metrics
        # However the search ends, what it held is freed once it can no longer be asked for more.
        self._release = weakref.finalize(self, found.release)
        self._release.atexit = False

    @property
    def answer_bytes(self) -> int:
        """How many bytes of ciphertexts the whole answer has."""
        return self.count * math.prod(self.answer_shape)

    async def blocks(self, form: AnswerForm) -> AsyncIterator[bytes]:
        """Yields the rows of the answer in that form, without head and end. Closing it stops the scan."""

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
