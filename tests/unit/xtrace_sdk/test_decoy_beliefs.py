"""What an observer of all requests may believe about what was wanted, computed exactly by Bayes' rule in small worlds.

The observer knows which chunks there are, the candidates of every search, each k and each number of decoys, the code
that draws them, and which ids every request named. Each arrangement that the generator can draw is run, so beliefs are
exact fractions.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xtrace_sdk.x_vec.retrievers.decoys import ChunkIds, Groups, Sample

Chunks = frozenset[int]
Partition = frozenset[Chunks]
"""The groups, without ungrouped chunks."""
Outcome = tuple[Chunks, Partition]
"""The ids that a request names, and the groups afterwards."""
Retrieve = Callable[[Partition, Sample, Chunks, ChunkIds, int], Outcome]
"""Given the groups, a generator, what is wanted, the candidates and the number of decoys."""


def retrieve(partition: Partition, sample: Sample, wanted: Chunks, candidates: ChunkIds, decoys: int) -> Outcome:
    """As the retriever does."""
    groups = Groups(partition, sample)
    asked = groups.together_with(set(wanted), candidates, decoys)
    return frozenset(asked), frozenset(map(frozenset, groups))


def retrieve_by_drawing_for_what_is_wanted(
    partition: Partition, sample: Sample, wanted: Chunks, candidates: ChunkIds, decoys: int
) -> Outcome:
    """What looks right and is not: the wanted one's group draws what it lacks from all candidates, which join it."""
    group_of = {chunk: group for group in partition for chunk in group}
    together = frozenset().union(*(group_of.get(one, {one}) for one in wanted))
    others = sorted(set(candidates.tolist()) - together)
    lacking = max(0, len(wanted) + decoys - len(together.intersection(candidates.tolist())))
    drawn = [others[i] for i in sample(range(len(others)), min(lacking, len(others)))]
    together = together.union(*(group_of.get(one, {one}) for one in drawn))
    return together, frozenset({together} | {group for group in partition if group.isdisjoint(together)})


@dataclass(frozen=True)
class Search:
    """What the service knows of a search."""

    candidates: Chunks
    k: int
    decoys: int

    @property
    def choices(self) -> list[Chunks]:
        """What might be wanted."""
        return list(map(frozenset, combinations(sorted(self.candidates), self.k)))

    @property
    def crowd(self) -> int:
        """How many candidates have to remain possible."""
        return min(self.k + self.decoys, len(self.candidates))

    def request(self, partition: Partition, sample: Sample, wanted: Chunks, by: Retrieve = retrieve) -> Outcome:
        return by(partition, sample, wanted, np.array(sorted(self.candidates)), self.decoys)

    @cache  # noqa: B019 - the worlds are small
    def outcomes(self, partition: Partition, wanted: Chunks, by: Retrieve = retrieve) -> Mapping[Outcome, Fraction]:
        """What may come of the retrieval, with the probabilities."""
        found: dict[Outcome, Fraction] = defaultdict(Fraction)
        for outcome, probability in every_arrangement(lambda sample: self.request(partition, sample, wanted, by)):
            found[outcome] += probability
        assert sum(found.values()) == 1
        return found


def every_arrangement(run: Callable[[Sample], Outcome]) -> Iterator[tuple[Outcome, Fraction]]:
    """Runs with everything that the generator may draw: the outcome and the probability of each."""
    pending: list[list[int]] = [[]]
    while pending:
        draws = _Draws(pending.pop())
        outcome = run(draws.sample)
        pending += draws.others
        yield outcome, draws.probability


class _Draws:
    """Takes the generator's place: draws what it is told to, and the first of what is left after that."""

    def __init__(self, told: Sequence[int]) -> None:
        self._told = iter(told)
        self._made: list[int] = []
        self.others: list[list[int]] = []
        """What else might have been drawn, up to the first difference."""
        self.probability = Fraction(1)

    def sample(self, population: Sequence[int], count: int) -> list[int]:
        left = list(population)
        return [left.pop(self._draw(len(left))) for _ in range(count)]

    def _draw(self, number: int) -> int:
        draw = next(self._told, None)
        if draw is None:
            draw = 0
            self.others += [[*self._made, other] for other in range(1, number)]
        self._made.append(draw)
        self.probability /= number
        return draw


Request = tuple[Search, Chunks]
Belief = dict[Chunks, Fraction]


def beliefs(requests: Sequence[Request], by: Retrieve = retrieve) -> list[Belief]:
    """For each request the belief in what was wanted, given all of them: any k candidates of each were as likely.

    The groups are not seen, only what is requested; so the observer weighs all that the groups may be.
    """
    before: list[dict[Partition, Fraction]] = [{frozenset(): Fraction(1)}]
    for search, asked in requests:
        following: dict[Partition, Fraction] = defaultdict(Fraction)
        for partition, _, then, probability in steps(search, asked, before[-1], by):
            following[then] += before[-1][partition] * probability
        before.append(following)
    after: dict[Partition, Fraction] = dict.fromkeys(before[-1], Fraction(1))
    found: list[Belief] = []
    for (search, asked), known in zip(reversed(requests), before[-2::-1], strict=True):
        belief: Belief = defaultdict(Fraction)
        earlier: dict[Partition, Fraction] = defaultdict(Fraction)
        for partition, wanted, then, probability in steps(search, asked, known, by):
            belief[wanted] += known[partition] * probability * after[then]
            earlier[partition] += probability * after[then]
        total, after = sum(belief.values()), earlier
        found.insert(0, {wanted: weight / total for wanted, weight in belief.items()})
    return found


def steps(
    search: Search, asked: Chunks, partitions: Mapping[Partition, Any], by: Retrieve
) -> Iterator[tuple[Partition, Chunks, Partition, Fraction]]:
    """From which groups, with what wanted, to which groups the request may have led, and how probably."""
    for partition in partitions:
        for wanted in search.choices:
            for (named, then), probability in search.outcomes(partition, wanted, by).items():
                if named == asked:
                    yield partition, wanted, then, probability


def belief_in_one_chunk_wanted_always(requests: Sequence[Request]) -> dict[int, Fraction]:
    """The belief of who knows that every one of these searches wants the same chunk, whichever it is."""
    weights = {}
    for chunk in frozenset.intersection(*(search.candidates for search, _ in requests)):
        known: dict[Partition, Fraction] = {frozenset(): Fraction(1)}
        for search, asked in requests:
            following: dict[Partition, Fraction] = defaultdict(Fraction)
            for partition, weight in known.items():
                for (named, then), probability in search.outcomes(partition, frozenset({chunk})).items():
                    if named == asked:
                        following[then] += weight * probability
            known = following
        weights[chunk] = sum(known.values(), Fraction(0))
    return {chunk: weight / sum(weights.values()) for chunk, weight in weights.items() if weight}


def each(belief: Belief) -> dict[int, Fraction]:
    """The belief in each chunk, that it is one of those wanted."""
    found: dict[int, Fraction] = defaultdict(Fraction)
    for wanted, weight in belief.items():
        for chunk in wanted:
            found[chunk] += weight
    return found


def played(rounds: Sequence[tuple[Search, Chunks]], seed: int, by: Retrieve = retrieve) -> list[Request]:
    """The requests of searches with what each wants."""
    partition: Partition = frozenset()
    requests = []
    for search, wanted in rounds:
        asked, partition = search.request(partition, random.Random(seed).sample, wanted, by)
        seed += 1
        requests.append((search, asked))
    return requests


# One retrieval, every case


def partitions(chunks: Sequence[int]) -> Iterator[list[list[int]]]:
    """All partitions; those of one chunk are ungrouped chunks."""
    if not chunks:
        yield []
        return
    first, *rest = chunks
    for others in partitions(rest):
        yield [[first], *others]
        for i, group in enumerate(others):
            yield [*others[:i], [first, *group], *others[i + 1 :]]


def groups_of(number: int) -> Iterator[Partition]:
    for partition in partitions(range(1, number + 1)):
        yield frozenset(frozenset(group) for group in partition if len(group) > 1)


def filters_of(number: int) -> list[Chunks]:
    """Every set of candidates that is not empty."""
    chunks = range(1, number + 1)
    return [frozenset(some) for size in chunks for some in combinations(chunks, size)]


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("decoys", [1, 2])
def test_who_is_told_the_groups_learns_only_in_which_of_them_the_wanted_ones_are(k: int, decoys: int) -> None:
    """Everything that happens has the same probability for every choice for which it can happen."""
    for partition in groups_of(4):
        for search in (Search(candidates, k, decoys) for candidates in filters_of(4) if len(candidates) >= k):
            likelihoods: dict[Outcome, dict[Chunks, Fraction]] = defaultdict(dict)
            for wanted in search.choices:
                for outcome, probability in search.outcomes(partition, wanted).items():
                    likelihoods[outcome][wanted] = probability
            for (asked, then), by_choice in likelihoods.items():
                assert len(set(by_choice.values())) == 1
                assert all(group <= asked or group.isdisjoint(asked) for group in then)
                assert len(asked & search.candidates) >= search.crowd
                equally = {wanted: Fraction(1, len(by_choice)) for wanted in by_choice}
                assert max(each(equally).values()) <= Fraction(k, search.crowd)


# Sequences of retrievals

CHUNKS = 6


@st.composite
def rounds(draw: Any, ks: Sequence[int] = (1, 2)) -> list[tuple[Search, Chunks]]:
    """Searches with filters and ranges, which are any candidates, and what each wants."""
    found = []
    for _ in range(draw(st.integers(1, 4))):
        k = draw(st.sampled_from(ks))
        candidates = draw(st.frozensets(st.integers(1, CHUNKS), min_size=k))
        wanted = draw(st.frozensets(st.sampled_from(sorted(candidates)), min_size=k, max_size=k))
        found.append((Search(candidates, k, draw(st.integers(1, 2))), wanted))
    return found


seeds = st.integers(0, 2**32)


@settings(max_examples=150, deadline=None)
@given(rounds(), seeds)
def test_no_chunk_is_believed_to_be_wanted_rather_than_a_crowd_of_others(
    wants: list[tuple[Search, Chunks]], seed: int
) -> None:
    requests = played(wants, seed)
    for (search, asked), belief in zip(requests, beliefs(requests), strict=True):
        in_each = each(belief)
        likeliest = max(in_each.values())
        assert likeliest <= Fraction(search.k, search.crowd)
        about_as_likely = [weight for weight in in_each.values() if weight > Fraction(3, 4) * likeliest]
        assert len(about_as_likely) >= min(search.decoys + 1, len(search.candidates))
        assert set(in_each) <= asked & search.candidates
        if search.k == 1:
            assert in_each == dict.fromkeys(asked & search.candidates, likeliest)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, CHUNKS), st.lists(st.frozensets(st.integers(1, CHUNKS)), min_size=1, max_size=3), seeds)
def test_who_knows_that_all_searches_want_one_chunk_learns_its_groups_and_the_filters(
    chunk: int, filters: list[Chunks], seed: int
) -> None:
    requests = played([(Search(some | {chunk}, 1, 2), frozenset({chunk})) for some in filters], seed)
    belief = belief_in_one_chunk_wanted_always(requests)
    possible = frozenset.intersection(*(asked & search.candidates for search, asked in requests))
    assert belief == dict.fromkeys(possible, Fraction(1, len(possible)))


@settings(max_examples=150, deadline=None)
@given(rounds(), seeds)
def test_what_requests_have_in_common_is_never_less_than_a_crowd(wants: list[tuple[Search, Chunks]], seed: int) -> None:
    requests = played(wants, seed)
    for chunk in range(1, CHUNKS + 1):
        naming = [(search, asked) for search, asked in requests if chunk in asked]
        if naming:
            first, _ = naming[0]
            common = frozenset.intersection(*(asked for _, asked in naming))
            assert len(common) >= min(first.decoys + 1, len(first.candidates))


def test_drawing_for_what_is_wanted_would_be_seen() -> None:
    """The beliefs above tell a wrong way from the right one."""
    everything = frozenset(range(1, 6))
    wants = [
        (Search(frozenset({2, 3}), 1, 1), frozenset({2})),
        (Search(everything, 1, 2), frozenset({1})),
    ]
    for by, fails in ((retrieve, False), (retrieve_by_drawing_for_what_is_wanted, True)):
        worst = max(
            max(each(beliefs(requests, by)[1]).values()) for requests in (played(wants, seed, by) for seed in range(20))
        )
        assert (worst > Fraction(1, 3)) is fails
