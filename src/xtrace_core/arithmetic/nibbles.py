"""Dot products of vectors in codes of 4 bits with a query: the scan of a local index.

A byte of a code contains two values from 0 to 15, the even coordinate in its low half and the odd one in its high half.
A value v stands for the level v - 7.5; subtracting 7.5 times the sum of the query, and scaling, is left to the caller.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

try:
    from xtrace_core.arithmetic._native import code_kernels
    from xtrace_core.arithmetic._native import nibble_dots as _compiled
except ImportError:  # not installed, or built from older sources
    KERNELS: list[str] = []
    """The compiled kernels that run here, fastest first."""
else:
    KERNELS = code_kernels()

MAX_BYTES: Final = 1 << 20
"""The most bytes of a code, so that every dot product fits into 32 bits."""
MAX_QUERY: Final = 63
"""The largest coordinate of a query."""
_BYTES_AT_ONCE: Final = 1 << 14
"""What NumPy works on at once: as floats it stays in the caches, which is several times faster."""
_EXACT_BYTES: Final = 2**24 // (2 * 15 * MAX_QUERY)
"""Up to this many bytes, every sum is an integer that a 32-bit float represents."""


def nibble_dots(
    codes: NDArray[np.uint8], query: NDArray[np.int8], threads: int = 1, kernel: str = ""
) -> NDArray[np.int32]:
    """Returns for each row of `codes`, `(n, b)`, the sum of its 2 b values, each times its coordinate of the query.

    The coordinates are from -63 to 63. Releases the interpreter's lock; `threads` share the rows. `kernel` names one of
    `KERNELS`; by default the first one is used, or NumPy if there is none. Raises `TypeError` and `ValueError` for
    arrays of another type, shape or memory layout, and for other coordinates.
    """
    _check(codes, query)
    if not KERNELS and not kernel:
        return portable_nibble_dots(codes, query)
    dots = np.empty(len(codes), np.int32)
    _compiled(kernel or KERNELS[0], threads, dots, codes, np.ascontiguousarray(query.reshape(-1, 2).T))
    return dots


def portable_nibble_dots(codes: NDArray[np.uint8], query: NDArray[np.int8]) -> NDArray[np.int32]:
    """Returns the same, with NumPy alone."""
    # Products of floats are many times faster than those of integers, and exact while every sum is.
    number: type[np.floating[Any]] = np.float32 if codes.shape[1] <= _EXACT_BYTES else np.float64
    even, odd = query[0::2].astype(number), query[1::2].astype(number)
    dots = np.empty(len(codes), np.int32)
    rows = max(1, _BYTES_AT_ONCE // codes.shape[1])
    for first in range(0, len(codes), rows):
        part = codes[first : first + rows]
        low, high = (part & 15).astype(number), (part >> 4).astype(number)
        dots[first : first + len(part)] = low @ even + high @ odd
    return dots


def _check(codes: NDArray[np.uint8], query: NDArray[np.int8]) -> None:
    if codes.dtype != np.uint8 or query.dtype != np.int8:
        raise TypeError(f"got codes of {codes.dtype} and a query of {query.dtype}, expected uint8 and int8")
    if codes.ndim != 2 or not 1 <= codes.shape[1] <= MAX_BYTES or query.shape != (2 * codes.shape[1],):
        raise ValueError(
            f"got codes of shape {codes.shape} and a query of shape {query.shape}, expected (n, b) and (2 b,) with b "
            f"from 1 to {MAX_BYTES}"
        )
    if not codes.flags.c_contiguous or not query.flags.c_contiguous:
        raise ValueError(
            "the codes or the query are not contiguous, expected C order: np.ascontiguousarray copies them"
        )
    if query.size and int(np.abs(query.astype(np.int16)).max()) > MAX_QUERY:
        raise ValueError(f"the query has a coordinate outside -{MAX_QUERY} to {MAX_QUERY}")
