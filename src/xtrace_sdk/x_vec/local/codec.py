"""`rot-4`: a vector in half a byte a dimension, compared with a float query.

A vector is rotated by a fixed pseudo-random rotation, so that every coordinate has about the same distribution whatever
the model, and each coordinate is rounded to one of sixteen levels (Gao and Long, RaBitQ, SIGMOD 2024, for the rotation
and the factor; the levels are those of a uniform quantiser for a Gaussian, Max 1960). The factor makes the estimate of
a cosine unbiased: it is the vector's length over its component along what the code stands for.

A code is a function of the `int8` copy inside the chunk's authenticated content alone. So an index can be built again
from contents, without the model, and a fetched chunk proves its own code.
"""

import hashlib
import math
from functools import lru_cache
from typing import Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from xtrace_core.arithmetic import nibble_dots

CODEC: Final = "rot-4"
LEVELS: Final = 16
_STEP: Final = 0.335
"""Of a coordinate with variance 1: the step with the least mean squared error for sixteen levels."""
_MIDDLE: Final = (LEVELS - 1) / 2
_QUERY_LEVELS: Final = 63
"""Queries have 7 bits, so that pairs of products fit into 16 bits."""
_LABEL: Final = b"xtrace/rot-4"
_ROUNDS: Final = 2
_MAX_INT32_WIDTH: Final = 4096
_AT_A_TIME: Final = 1 << 18
"""Numbers that are rotated together: 1 MiB, about what a core keeps near."""

N = TypeVar("N", np.int32, np.int64, np.float64)


class Codes(NamedTuple):
    """The codes of `n` vectors."""

    levels: NDArray[np.uint8]
    """`(n, width / 2)`: two levels a byte, that of the even coordinate in the low half."""
    factors: NDArray[np.float32]
    """`(n,)`, 0 for a vector of zeros, which has no direction. Times the width, each is a number of 16 bits."""


class Query(NamedTuple):
    """A query vector, ready to be compared."""

    elements: NDArray[np.int8]
    """`(width,)`, −63 to 63."""
    scale: float
    """What an element of 1 stands for."""


def width_of(dim: int) -> int:
    """The coordinates of a code: the next power of two, at least 2."""
    return max(2, 1 << (dim - 1).bit_length())


def encode(copies: NDArray[np.int8]) -> Codes:
    """The codes of the `int8` copies of vectors `(n, dim)`: the same on every machine, because integers are added."""
    width = width_of(copies.shape[1])
    levels = np.empty((len(copies), width // 2), np.uint8)
    factors = np.empty(len(copies), np.float32)
    step = max(1, _AT_A_TIME // width)
    for start in range(0, len(copies), step):
        some = slice(start, start + step)
        rotated, rounded = _rounded(copies[some], width)
        along = (rotated * (rounded - _MIDDLE)).sum(axis=1)
        # A vector of zeros has nothing along its code.
        exact = np.where(along > 0, width / np.where(along > 0, along, 1), 0)
        factors[some] = exact.astype(np.float16) / np.float32(width)
        whole = rounded.astype(np.uint8)
        levels[some] = whole[:, ::2] | whole[:, 1::2] << 4
    return Codes(levels, factors)


def _rounded(copies: NDArray[np.int8], width: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The rotated unit vectors, with coordinates of variance 1, and the level of each coordinate."""
    # Two transforms make of elements up to 127 sums up to 127·width².
    wide = copies.astype(np.int64)
    lengths = np.sqrt((wide**2).sum(axis=1, keepdims=True) * float(width))
    integers = _rotated(copies.astype(np.int32), width) if width <= _MAX_INT32_WIDTH else _rotated(wide, width)
    rotated = integers / np.where(lengths > 0, lengths, 1)
    return rotated, np.clip(np.floor(rotated / _STEP + LEVELS / 2), 0, LEVELS - 1)


def query(vector: NDArray[np.float32]) -> Query:
    """A query vector `(dim,)`, rounded to 7 bits a coordinate."""
    width = width_of(len(vector))
    floats = vector.astype(np.float64)
    rotated = _rotated(floats[None], width)[0] / (float(np.linalg.norm(floats)) * math.sqrt(width) or 1)
    largest = float(np.abs(rotated).max()) or 1.0
    return Query(np.rint(rotated * (_QUERY_LEVELS / largest)).astype(np.int8), largest / _QUERY_LEVELS)


def cosines(codes: Codes, wanted: Query) -> NDArray[np.float32]:
    """The estimated cosine similarity `(n,)` of each vector to the query, about −1 to 1."""
    dots = nibble_dots(codes.levels, wanted.elements).astype(np.float32)
    dots -= np.float32(_MIDDLE * int(wanted.elements.sum(dtype=np.int64)))
    estimated: NDArray[np.float32] = dots * codes.factors * np.float32(wanted.scale)
    return estimated


def _rotated(vectors: NDArray[N], width: int) -> NDArray[N]:
    """`(n, width)`: H·D₂·H·D₁ of each vector, padded with zeros; their lengths grow by the factor `width`."""
    columns = np.zeros((width, len(vectors)), vectors.dtype)
    columns[: vectors.shape[1]] = vectors.T
    for signs in _signs(width):
        columns *= signs[:, None].astype(vectors.dtype)
        _transform(columns)
    return columns.T


@lru_cache(maxsize=16)
def _signs(width: int) -> NDArray[np.int8]:
    """`(2, width)` of 1 and −1: the bits of SHAKE-256, most significant first; 1 stands for −1."""
    seed = _LABEL + width.to_bytes(4, "big")
    drawn = np.frombuffer(hashlib.shake_256(seed).digest(-(-_ROUNDS * width // 8)), np.uint8)
    signs = (1 - 2 * np.unpackbits(drawn, count=_ROUNDS * width).astype(np.int8)).reshape(_ROUNDS, width)
    signs.setflags(write=False)
    return signs


def _transform(columns: NDArray[N]) -> None:
    """The Walsh-Hadamard transform (natural order, without scaling) of each column, in place."""
    half = 1
    while half < len(columns):
        pairs = columns.reshape(len(columns) // (2 * half), 2, -1)
        low, high = pairs[:, 0].copy(), pairs[:, 1]
        pairs[:, 0] += high
        np.subtract(low, high, out=high)
        half *= 2
