"""One order from words and vectors: BM25, the question's word pairs, and the cosine similarity, added up.

Reciprocal rank fusion is not offered. Where only an exact word tells texts apart ("Invoice 4010" among many invoices),
the wanted text is first in the order of words and far down in that of vectors, and ranks forget by how much it won
(docs/local-index.md).
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from xtrace_sdk.x_vec.local.tokens import tokens

COSINE_WEIGHT: Final = 1.0


def fused(
    question: Sequence[str],
    texts: Sequence[str | None],
    word_scores: NDArray[np.float32],
    similarities: Sequence[float],
) -> NDArray[np.float64]:
    """The score of each candidate: BM25 over the largest BM25, plus the share of the question's pairs of adjacent
    tokens that its text has, plus its cosine similarity."""
    largest = float(word_scores.max(initial=0)) or 1.0
    wanted = set(pairwise(question))
    shares = np.array([_share(wanted, text) for text in texts], np.float64)
    scores: NDArray[np.float64] = word_scores / largest + shares + COSINE_WEIGHT * np.array(similarities, np.float64)
    return scores


def _share(wanted: set[tuple[str, str]], text: str | None) -> float:
    """The share of the pairs that a text has."""
    return len(wanted.intersection(pairwise(tokens(text)))) / len(wanted) if wanted and text else 0.0
