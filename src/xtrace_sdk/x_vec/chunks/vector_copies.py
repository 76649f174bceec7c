"""Copies of float vectors in the encrypted content, and rescoring by them.

A search finds candidates by the Hamming distance of bits, because that is what the server can compute. With a copy of
each candidate's vector, the client can rank them by cosine similarity.
"""

from typing import Any, Final, Literal, cast

import numpy as np
from numpy.typing import NDArray

from xtrace_sdk.errors import InvalidArgument, InvalidVector
from xtrace_sdk.x_vec.chunks.vectors import finite_floats

CopyKind = Literal["int8", "float32"]
"""`int8`: one byte per element, scaled by the vector's largest magnitude; `float32`: the elements, four bytes each."""

_KINDS: Final = ("int8", "float32")
_LARGEST: Final = 127


def copy_kind(kind: Any) -> CopyKind | None:
    """Returns the chosen kind of copy, or None. Raises `InvalidArgument` for anything else."""
    if kind is not None and kind not in _KINDS:
        raise InvalidArgument(f"vector_copy is {kind!r}, expected None, {' or '.join(map(repr, _KINDS))}")
    return cast("CopyKind | None", kind)


def as_floats(vector: Any, dim: int) -> NDArray[np.float32]:
    """Returns one float vector as `(dim,)` float32. Raises `InvalidVector` for bits, another shape or length."""
    try:
        elements = np.asarray(vector)
    except ValueError:
        elements = np.empty((0, 0))
    if elements.shape != (dim,):
        raise InvalidVector(f"got an array of shape {elements.shape}, expected one vector of {dim} floats")
    if elements.dtype.kind != "f":
        raise InvalidVector(
            f"got a vector of {elements.dtype}, expected floats as the model returns them (`embed`, `embed_many`), "
            "which rescoring needs"
        )
    return finite_floats(elements)


def vector_copies(vectors: NDArray[np.float32], kind: CopyKind) -> NDArray[np.int8] | NDArray[np.float32]:
    """Returns copies `(n, dim)` of float vectors `(n, dim)`, with the kind's dtype.

    As `int8`, each vector is scaled so that its largest magnitude becomes 127, and rounded: it keeps its direction,
    which is all that cosine similarity needs, and loses its length.
    """
    if kind == "float32":
        return vectors.astype(np.float32)
    largest = np.abs(vectors).max(axis=1, keepdims=True).astype(np.float64)
    return np.rint(vectors * (_LARGEST / np.where(largest > 0, largest, 1))).astype(np.int8)


def cosine_similarities(query: NDArray[np.float32], copies: NDArray[Any]) -> NDArray[np.float64]:
    """Returns the cosine similarities, −1 to 1, of a float vector `(dim,)` and the copies `(n, dim)`, as `(n,)`
    float64.

    It is 0 for a zero vector, which does not have a direction.
    """
    floats, wanted = copies.astype(np.float64), query.astype(np.float64)
    lengths = np.linalg.norm(floats, axis=1) * np.linalg.norm(wanted)
    lengths[lengths == 0] = np.inf
    similarities: NDArray[np.float64] = np.clip(floats @ wanted / lengths, -1, 1)
    return similarities
