"""Maximal marginal relevance chooses what the formula says, written down plainly."""

import numpy as np
import pytest

from support.collecting import cosine
from xtrace_sdk.collection.relevance import most_relevant

VECTORS = np.random.default_rng(3).normal(size=(30, 6)).astype(np.float32)
QUERY = VECTORS[:3].sum(axis=0)
RELEVANCES = np.array([cosine(QUERY, one) for one in VECTORS])


@pytest.mark.parametrize("diversity", [0.0, 0.3, 0.5, 0.9, 1.0])
def test_choices_are_those_of_the_formula(diversity: float) -> None:
    chosen: list[int] = []
    while len(chosen) < 12:

        def score(i: int) -> float:
            nearest = max((cosine(VECTORS[i], VECTORS[j]) for j in chosen), default=0.0)
            return (1 - diversity) * float(RELEVANCES[i]) - diversity * nearest

        chosen.append(max((i for i in range(len(VECTORS)) if i not in chosen), key=score))
    assert most_relevant(RELEVANCES, VECTORS, 12, diversity) == chosen


def test_without_diversity_the_order_is_that_of_relevance() -> None:
    assert most_relevant(RELEVANCES, VECTORS, 30, 0.0) == np.argsort(-RELEVANCES).tolist()


def test_all_are_chosen_once_where_more_are_wanted() -> None:
    assert sorted(most_relevant(RELEVANCES, VECTORS, 99, 0.5)) == list(range(len(VECTORS)))
    assert most_relevant(RELEVANCES[:0], VECTORS[:0], 5, 0.5) == []


def test_a_vector_without_a_direction_differs_from_all_others() -> None:
    vectors = np.array([[1, 0], [1, 0], [0, 0]], dtype=np.float32)
    assert most_relevant(np.array([0.9, 0.9, 0.5]), vectors, 2, 0.5) == [0, 2]
