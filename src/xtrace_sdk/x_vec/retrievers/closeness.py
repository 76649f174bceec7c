"""How close found chunks are to a query, computed from the copies of their vectors."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xtrace_sdk.errors import UnknownContent
from xtrace_sdk.x_vec.chunks.envelope import VectorCopy
from xtrace_sdk.x_vec.chunks.vector_copies import cosine_similarities
from xtrace_sdk.x_vec.chunks.vectors import VectorForm


def distances_to(form: VectorForm, query: NDArray[Any], copies: Sequence[VectorCopy | None]) -> list[int]:
    """The Hamming distance of the bits of each copy to those of a query of floats.

    Bits of an `int8` copy may differ from the stored ones where a projection is close to 0.
    """
    if not copies:
        return []
    bits = form.bits(np.stack([query if copy is None else copy.astype(np.float32) for copy in copies]))
    return [int(distance) for distance in (bits != form.as_bits(query)).sum(axis=1)]


def similarities_to(
    form: VectorForm, query: NDArray[Any], copies: Sequence[VectorCopy | None], distances: Sequence[int]
) -> list[float]:
    """The cosine similarity of each: exact from its copy if the query is floats, else estimated from the distance.

    Vectors that differ in d of n bits have an estimated angle of π·d/n (Charikar, STOC 2002). Raises `UnknownContent`
    for a copy whose length differs from the query's.
    """
    similarities = [math.cos(math.pi * distance / form.embed_len) for distance in distances]
    if query.dtype.kind == "f":
        present = {i: copy for i, copy in enumerate(copies) if copy is not None}
        if any(len(copy) != len(query) for copy in present.values()):
            raise UnknownContent("a copy of a vector has a different length than the query: other software wrote it")
        if present:
            exact = cosine_similarities(query, np.stack([copy.astype(np.float32) for copy in present.values()]))
            for i, similarity in zip(present, exact.tolist(), strict=True):
                similarities[i] = similarity
    return similarities
