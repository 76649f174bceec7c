"""What a scheme provides to the service: what is stored for a chunk, and what a search computes from it.

Storage, search and HTTP handle ciphertexts only through an `Evaluation`. Nothing outside it may assume that an answer
is as wide as a stored row, that queries and indexes have the same number of ciphertexts, or that a modulus exists.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xtrace_core.arithmetic import Buffer, Rows

Query: TypeAlias = Sequence[bytes]
"""One encrypted query as sent over HTTP; a scheme may have queries without ciphertexts."""


class InvalidPublicKey(ValueError):
    """The public part does not allow searches."""


class InvalidCiphertext(ValueError):
    """An index or a query does not match the context's public part."""


class Evaluation(Protocol):
    """What the service does for contexts with a given public part. Every method may run in any thread."""

    @property
    def row_bytes(self) -> int | None:
        """The length of every stored row if the public part fixes it; None if the first stored index does."""
        ...

    @property
    def blocks(self) -> "BlockEvaluation | None":
        """What the service does with many rows encrypted together; None for schemes without blocks."""
        ...

    def row(self, index: Sequence[bytes]) -> bytes:
        """Checks an index and returns it as stored: its ciphertexts, padded to their full width.

        Raises `InvalidCiphertext`.
        """
        ...

    def index(self, row: bytes) -> list[bytes]:
        """Returns the ciphertexts of a stored row, little-endian without padding."""
        ...

    def check_query(self, query: Query, row_bytes: int | None) -> None:
        """Raises `InvalidCiphertext` unless the query can be evaluated over rows of that length.

        None: nothing is stored yet, so any length is possible.
        """
        ...

    def answer_shape(self, queries: Sequence[Query]) -> tuple[int, int]:
        """Returns how many ciphertexts answer the queries for each row, and the bytes of each."""
        ...

    def evaluate(self, rows: Rows, queries: Sequence[Query]) -> Rows:
        """Returns the answers to checked queries for stored rows, `(n, row length)` uint8, in their order.

        `(n, count * width)` uint8 of `answer_shape`: the ciphertexts for the first query, then for the second, and so
        on. The result may be `rows` itself.
        """
        ...


@dataclass(frozen=True, slots=True)
class BlockSizes:
    """The lengths of a block's parts and of a query in bytes, and the shape of an answer."""

    header: int
    hints: int
    body: int
    query: int
    rows: int
    """The slots of a block."""
    slabs: int
    """The values of a slot in an answer."""


@dataclass(frozen=True, slots=True)
class BlockSummary:
    """What the service needs to know of a block's header."""

    count: int
    """The vectors in the block: its slots from 0 on."""
    sha256: bytes
    """Of the body."""


class BlockEvaluation(Protocol):
    """What the service does with blocks: immutable bodies of many rows, encrypted together."""

    @property
    def sizes(self) -> BlockSizes: ...

    def summary(self, header: bytes) -> BlockSummary:
        """Raises `InvalidCiphertext` unless the header is one under the context's public part."""
        ...

    def check_block(self, header: bytes, hints: bytes, body: Buffer) -> None:
        """Raises `InvalidCiphertext` unless the parts form a block under the context's public part."""
        ...

    def check_query(self, data: Buffer) -> None:
        """Raises `InvalidCiphertext` unless the query can be evaluated over the context's blocks."""
        ...

    def evaluate(self, bodies: Sequence[Buffer], queries: Sequence[Buffer]) -> NDArray[np.uint16]:
        """Returns the values of checked bodies for checked queries, `(bodies, queries, slabs, rows)`.

        Depends on nothing else, so it can run anywhere. Raises `InvalidCiphertext` for data of another length.
        """
        ...


EvaluationFactory: TypeAlias = Callable[[str], Evaluation]
"""Makes the evaluation for the `pk` of a stored context, a JSON text. Raises `InvalidPublicKey`."""
