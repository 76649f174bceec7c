"""Binary vectors as every scheme handles them: checked, packed, compared."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xtrace_core.arithmetic import Rows
from xtrace_core.limits import MAX_EMBED_LEN
from xtrace_sdk.errors import InvalidArgument, InvalidVector
from xtrace_sdk.x_vec.schemes.interface import Bits, Distances

PackedBits = Rows
"""Vectors with eight positions per byte, `(n, bytes)`, in an order that the scheme chooses."""


def check_embed_len(embed_len: int) -> None:
    """Raises `InvalidArgument` for a length outside 1 to 4096."""
    if not 1 <= embed_len <= MAX_EMBED_LEN:
        raise InvalidArgument(f"the embedding length is {embed_len}, expected 1 to {MAX_EMBED_LEN}")


def checked_bits(vectors: Any, embed_len: int) -> Bits:
    """Returns vectors, an array or lists, as `(n, embed_len)` uint8. Raises `InvalidVector` unless they are binary."""
    try:
        bits = np.asarray(_lists_joined(vectors))
    except ValueError:
        bits = np.empty(())
    if bits.ndim >= 1 and not len(bits):
        bits = np.empty((0, embed_len), dtype=np.uint8)
    if bits.ndim != 2:
        raise InvalidVector(f"got no vectors of equal length, expected vectors of {embed_len} positions")
    if bits.shape[1] != embed_len:
        raise InvalidVector(
            f"got a vector of {bits.shape[1]} positions, expected {embed_len}, the context's embedding length"
        )
    # Bytes are used unchanged; other numbers are checked one by one.
    if bits.dtype == np.uint8:
        binary = bits.max(initial=0) <= 1
    else:
        binary = bits.dtype.kind in "biuf" and ((bits == 0) | (bits == 1)).all()
    if not binary:
        raise InvalidVector("got a vector with elements other than 0 and 1, expected a binary vector")
    return np.ascontiguousarray(bits, dtype=np.uint8)


def differing(packed: PackedBits, query: PackedBits) -> Distances:
    """Returns the number of positions in which each packed vector differs from one vector, `(1, bytes)`."""
    count = packed.shape[1]
    words = np.zeros((len(packed), -(-count // 8)), dtype=np.uint64)
    np.bitwise_xor(packed, query, out=words.view(np.uint8)[:, :count])
    distances: NDArray[np.int64] = np.bitwise_count(words).sum(axis=1, dtype=np.int64)
    return distances


def _lists_joined(vectors: Any) -> Any:
    """Converts lists of small integers to an array, several times as fast as NumPy; returns anything else unchanged."""
    if not isinstance(vectors, list) or not vectors or not all(type(vector) is list for vector in vectors):
        return vectors
    try:
        rows = [bytes(vector) for vector in vectors]
    except (TypeError, ValueError):
        return vectors
    width = len(rows[0])
    if not width or any(len(row) != width for row in rows):
        return vectors
    return np.frombuffer(b"".join(rows), dtype=np.uint8).reshape(len(rows), width)
