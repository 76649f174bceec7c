"""Maximal marginal relevance: choosing results that are relevant and differ from each other.

Carbonell and Goldstein, "The Use of MMR, Diversity-Based Reranking for Reordering Documents", SIGIR 1998.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xtrace_sdk.x_vec.chunks.vector_copies import cosine_similarities


def most_relevant(relevances: NDArray[Any], vectors: NDArray[Any], k: int, diversity: float) -> list[int]:
    """Returns the positions of the `k` chosen vectors `(n, dim)`, in the order in which they are chosen.

    Each choice maximises (1 − diversity)·relevance − diversity·(its largest cosine similarity to a vector already
    chosen); ties go to the first.
    """
    chosen: list[int] = []
    nearness = np.zeros(len(relevances))
    left = np.ones(len(relevances), dtype=np.bool_)
    while len(chosen) < min(k, len(relevances)):
        scores = np.where(left, (1 - diversity) * relevances - diversity * nearness, -np.inf)
        best = int(scores.argmax())
        similarities = cosine_similarities(vectors[best], vectors)
        nearness = np.maximum(nearness, similarities) if chosen else similarities
        left[best] = False
        chosen.append(best)
    return chosen
