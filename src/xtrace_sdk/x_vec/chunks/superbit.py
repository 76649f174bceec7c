"""`superbit-1`: the bits of a float vector as the signs of fixed, random, orthogonal projections of it.

The fraction of differing bits of two vectors estimates their angle (Charikar, STOC 2002). Orthogonal projections
estimate it better than independent ones (Ji, Li, Yan, Zhang, Tian, NIPS 2012), and so do more projections than the
vector has dimensions. Hadamard transforms with random signs between them are as good as random rotations, and fast
(Andoni, Indyk, Laarhoven, Razenshteyn, Schmidt, NIPS 2015).

Everything is exact: elements become integers, and integers are added. So equal floats give equal bits on every machine
(docs/formats.md, "More bits than dimensions"; tests/vectors/superbit.json).
"""

import hashlib
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

PROJECTION: Final = "superbit-1"
MAX_BITS: Final = 4096
"""The maximum number of positions of a vector."""

_LABEL: Final = b"xtrace/superbit-1"
_ROUNDS: Final = 3
_MAGNITUDE_BITS: Final = 24
"""Elements become integers of at most this many bits. Three transforms of d elements (at most 2^14) multiply them by at
most d², so the sums stay below 2^52."""
_AT_A_TIME: Final = 1 << 18
"""The number of values that are transformed together: 2 MiB, about the size of a core's cache."""


def superbits(vectors: NDArray[np.float32], bits: int) -> NDArray[np.uint8]:
    """`(n, bits)` uint8 of `(n, dim)` finite float32 vectors of at most 16,384 dimensions: 1 where a projection is
    above 0.

    Only a vector's direction matters, and a vector of zeros gives zeros.
    """
    width = 1 << (vectors.shape[1] - 1).bit_length()
    out = np.empty((len(vectors), bits), dtype=np.uint8)
    step = max(1, _AT_A_TIME // width)
    for start in range(0, len(vectors), step):
        # One vector per column, so that the operands of additions are adjacent in memory.
        columns = np.zeros((width, len(vectors[start : start + step])), dtype=np.int64)
        columns[: vectors.shape[1]] = _integers(vectors[start : start + step]).T
        for block in range(-(-bits // width)):
            first = block * width
            wanted = min(width, bits - first)
            out[start : start + step, first : first + wanted] = (_rotated(columns, block)[:wanted] > 0).T
    return out


def _integers(vectors: NDArray[np.float32]) -> NDArray[np.int64]:
    """Scales each vector by the power of two that gives its largest magnitude 24 bits, and rounds, ties to even."""
    exponents = np.frexp(np.abs(vectors).max(axis=1, keepdims=True))[1]
    scaled: NDArray[np.float64] = np.ldexp(vectors.astype(np.float64), _MAGNITUDE_BITS - exponents)
    return np.rint(scaled).astype(np.int64)


def _rotated(columns: NDArray[np.int64], block: int) -> NDArray[np.int64]:
    """Computes H·D₃·H·D₂·H·D₁ of each column, with the signs D of this block."""
    for signs in _signs(len(columns), block):
        columns = columns * signs[:, None]
        _transform(columns)
    return columns


@lru_cache(maxsize=64)
def _signs(width: int, block: int) -> NDArray[np.int64]:
    """Returns `(3, width)` signs, 1 and −1: the bits of SHAKE-256, most significant first; a bit of 1 means −1."""
    seed = _LABEL + width.to_bytes(4, "big") + block.to_bytes(4, "big")
    drawn = np.frombuffer(hashlib.shake_256(seed).digest(-(-_ROUNDS * width // 8)), dtype=np.uint8)
    signs = 1 - 2 * np.unpackbits(drawn, count=_ROUNDS * width).astype(np.int64).reshape(_ROUNDS, width)
    signs.setflags(write=False)
    return signs


def _transform(columns: NDArray[np.int64]) -> None:
    """Applies the Walsh-Hadamard transform (natural order, without scaling) to each column, in place."""
    width = len(columns)
    half = 1
    while half < width:
        pairs = columns.reshape(width // (2 * half), 2, -1)
        low, high = pairs[:, 0].copy(), pairs[:, 1]
        pairs[:, 0] += high
        np.subtract(low, high, out=high)
        half *= 2
