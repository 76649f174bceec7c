"""BM25 over the word indexes of several segments (Robertson and Zaragoza, The Probabilistic Relevance Framework, 2009).

Document frequencies and the mean length count every row that is not deleted or filtered out, over all segments.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xtrace_sdk.x_vec.local.tokens import has_digit
from xtrace_sdk.x_vec.local.words import WordIndex

RARE: Final = 100
"""A token that at most this number of rows have is rare."""
_K1: Final = 1.2
_B: Final = 0.75


class Scores(NamedTuple):
    """How well each row answers a question's tokens."""

    scores: NDArray[np.float32]
    """`(rows,)` over all segments, 0 for rows that have none of the tokens or are not allowed."""
    has_rare: NDArray[np.bool_]
    """`(rows,)`: which have a token of the question that is rare, or has a digit and is not common."""


def bm25(question: Sequence[str], indexes: Sequence[WordIndex], allowed: Sequence[NDArray[np.bool_]]) -> Scores:
    """The scores of the rows that are allowed, of all segments in a row."""
    starts = np.concatenate(([0], np.cumsum([len(index) for index in indexes])))
    count = sum(int(mask.sum()) for mask in allowed)
    lengths = np.concatenate([index.lengths for index in indexes]).astype(np.float32)
    mask = np.concatenate(allowed)
    norms = _K1 * (1 - _B + _B * lengths / max(float(lengths[mask].mean()) if count else 1.0, 1.0))
    scores, has_rare = np.zeros(len(mask), np.float32), np.zeros(len(mask), np.bool_)
    for token, weight in Counter(question).items():
        rows, counts = _occurrences(token, indexes, starts, mask)
        if frequency := len(rows):
            idf = np.log1p((count - frequency + 0.5) / (frequency + 0.5))
            scores[rows] += weight * idf * counts * (_K1 + 1) / (counts + norms[rows])
            if frequency <= RARE or (has_digit(token) and frequency <= count // 100):
                has_rare[rows] = True
    return Scores(scores, has_rare)


def _occurrences(
    token: str, indexes: Sequence[WordIndex], starts: NDArray[np.int64], mask: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The allowed rows with the token, over all segments, and how often each has it."""
    rows, counts = [np.empty(0, np.int64)], [np.empty(0, np.float32)]
    for index, start in zip(indexes, starts.tolist(), strict=False):
        if (found := index.postings(token)) is not None:
            rows.append(found.rows.astype(np.int64) + start)
            counts.append(found.counts.astype(np.float32))
    all_rows, all_counts = np.concatenate(rows), np.concatenate(counts)
    inside = mask[all_rows]
    return all_rows[inside], all_counts[inside]
