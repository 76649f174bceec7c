"""What a backend of the blocks' arithmetic offers; all give the same bytes."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xtrace_core.arithmetic import Buffer

Elements: TypeAlias = NDArray[np.uint32]
"""Ring elements `(..., P, DEGREE)`: residues modulo the first P primes, each below its prime.

They stand for coefficients, or for values at the odd powers of a root of unity psi: value i is that at psi^(2 r + 1),
where r is i with its ten bits reversed.
"""
Coefficients: TypeAlias = NDArray[np.int64]
"""Coefficients with a sign, `(..., DEGREE)`."""
Values: TypeAlias = NDArray[np.uint16]
"""The values of an answer: shape `(bodies, queries, slabs, BLOCK_ROWS)`, 12 bits each."""


class Noisy(NamedTuple):
    """Elements that consist of an error and a message."""

    noise: NDArray[np.uint32]
    """Words of a key stream, `(K, DEGREE)`: an error is the ones in the low half less those in the high half."""
    codes: NDArray[np.uint8]
    """Four bits for each of the first coefficients, `(K, rows)`."""
    weights: tuple[int, int, int, int]
    """Of the bits, at most 2^41 in size: a message is the sum of those of ones less the sum of those of zeros."""


class QueryValues(NamedTuple):
    """What reads the answers to queries: values modulo the first prime."""

    secrets: NDArray[np.uint32]
    """Those of the queries' secrets, `(queries, RANK, DEGREE)`."""
    kept: NDArray[np.uint32]
    """`(queries, slabs, RANK, DEGREE)`"""


class UnreadBlock(NamedTuple):
    """What a client reads of one block in an answer."""

    secret: bytes
    """The coefficients of the block's secret plus 1, a byte each, `RANK * DEGREE`."""
    hints: bytes
    slots: NDArray[np.int64]
    """Those that were answered, ascending, `(n,)`."""
    values: Buffer
    """Their values as they were sent: for each query and slab `n` values of 12 bits, padded to a byte."""


class Ring(Protocol):
    """Arithmetic with ring elements. Nothing is kept between calls, and every method may run in any thread."""

    name: str

    def forward(self, coefficients: Elements) -> Elements:
        """Returns the values of elements with these coefficients."""
        ...

    def inverse(self, values: Elements) -> Elements:
        """Returns the coefficients of elements with these values."""
        ...

    def evaluate(self, embed_len: int, bodies: Sequence[Buffer], queries: Sequence[Buffer]) -> Values:
        """Returns the values of every body for every query; the residues of both are below their primes."""
        ...

    def masked(
        self, matrix: Elements, other: Elements, secret: Elements, noisy: Noisy, *, sums_of_noisy: bool
    ) -> tuple[bytes, Elements]:
        """Returns `(tiles, sums)` of one slab of a block or a query.

        The rows, laid out in tiles, are `matrix` times the secret plus the noisy elements. The sums are the
        coefficients of the transpose of `other` times the rows, or times the noisy elements. Both matrices are values
        `(K, RANK, 2, DEGREE)`, the secret is `(RANK, 2, DEGREE)`.
        """
        ...

    def read(
        self, embed_len: int, queries: QueryValues, blocks: Sequence[UnreadBlock]
    ) -> tuple[NDArray[np.uint16], NDArray[np.bool_]]:
        """Returns `(distances, valid)` for at least one query.

        Distances are those of the slots of all blocks, one block after another: `(queries, slots)`. A block is valid if
        an honest service may have computed its values.

        Raises `ValueError` for slots that are not ascending or not below `BLOCK_ROWS`, and for values of another length
        or padding.
        """
        ...
