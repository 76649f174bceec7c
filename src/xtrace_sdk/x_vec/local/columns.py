"""Columns of numbers in few bytes: what most columns of a segment repeat costs almost nothing."""

import zlib
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

_LEVEL: Final = 6
_MAX_INFLATED: Final = 1 << 28
"""A segment of 8 MiB that someone made to fill the memory of its readers is refused."""


def deflated(data: bytes) -> bytes:
    """Returns what `inflated` takes."""
    return zlib.compress(data, _LEVEL)


def inflated(data: bytes) -> bytes:
    """Returns what was deflated. Raises `ValueError` for anything else, and for more than 256 MiB."""
    stream = zlib.decompressobj()
    try:
        found = stream.decompress(data, _MAX_INFLATED)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if not stream.eof or stream.unused_data:
        raise ValueError("a compressed column is cut off, too long, or followed by more")
    return found


def packed(column: NDArray[Any], form: str) -> bytes:
    """Returns what `unpacked` takes. `form` is the type of the elements in the bytes, lowest byte first."""
    plain = column.astype(form)
    # The bytes of equal weight together: the high ones hardly differ from row to row.
    return deflated(plain.view(np.uint8).reshape(len(plain), plain.itemsize).T.tobytes())


def unpacked(data: bytes, rows: int, form: str, dtype: DTypeLike) -> NDArray[Any]:
    """Returns the column of that many rows. Raises `ValueError` for data of another length."""
    weights = np.frombuffer(inflated(data), np.uint8).reshape(np.dtype(form).itemsize, rows)
    return np.ascontiguousarray(weights.T).view(form).reshape(rows).astype(dtype)
