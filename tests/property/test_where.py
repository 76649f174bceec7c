"""What the service is asked for a `where`, against the exact decision: no record that matches is ever left out."""

import os
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from support.where_strategies import conditions, filterable, metadata, values, wheres
from xtrace_core.filter_matching import matches as service_matches
from xtrace_core.metadata_filter import parse_filter
from xtrace_sdk.collection.filterable import FilterableFields, Range
from xtrace_sdk.collection.matching import matches
from xtrace_sdk.collection.metadata import as_text, checked, from_text
from xtrace_sdk.collection.service_filter import Bound, bounds
from xtrace_sdk.collection.tokens import COUNTS, Tokens
from xtrace_sdk.collection.values import compares, moment, order_key, same
from xtrace_sdk.collection.where import parse_where


class Keyed:
    """The one thing that hashes need of a context."""

    def pseudonym(self, purpose: str, *values: str) -> str:
        return f"{purpose} {values}"


TOKENS = Tokens(Keyed(), "space")  # type: ignore[arg-type]


def passes(bound: Bound, tokens: list[str]) -> bool:
    return bound if isinstance(bound, bool) else service_matches(parse_filter(bound), {"facets": tokens})


@settings(max_examples=900 if "XTRACE_TEST_FULL" in os.environ else 500, deadline=None)
@given(wheres, metadata, filterable)
def test_the_service_never_loses_a_match_and_decides_only_what_it_can(where: Any, given_: Any, chosen: Any) -> None:
    fields, tree, record = FilterableFields.of(chosen), parse_where(where), checked(given_)
    tokens, found = TOKENS.of(record, fields, "id"), bounds(tree, fields, TOKENS)
    exact = matches(tree, record)
    assert passes(found.wide, tokens) >= exact
    assert passes(found.narrow, tokens) <= exact


@settings(max_examples=900 if "XTRACE_TEST_FULL" in os.environ else 700, deadline=None)
@given(conditions, values, st.booleans())
def test_the_service_never_loses_a_match_of_one_condition(condition: Any, value: Any, is_negated: bool) -> None:
    where = {"$not": {"a": condition}} if is_negated else {"a": condition}
    tree, record = parse_where(where), checked({"a": value})
    for chosen in (True, {"a": Range(0, 5, 1)}):
        fields = FilterableFields.of(chosen)
        tokens, found = TOKENS.of(record, fields, "id"), bounds(tree, fields, TOKENS)
        assert passes(found.wide, tokens) >= matches(tree, record) >= passes(found.narrow, tokens)


@settings(max_examples=500, deadline=None)
@given(metadata, filterable)
def test_hashes_are_of_few_counts_in_an_order_that_tells_nothing(given_: Any, chosen: Any) -> None:
    fields, record = FilterableFields.of(chosen), checked(given_)
    tokens = TOKENS.of(record, fields, "id")
    assert len(tokens) in (0, *COUNTS)
    assert (len(tokens) == 0) == fields.is_empty
    assert tokens == sorted(set(tokens))
    reversed_keys = dict(reversed(list(record.items())))
    assert TOKENS.of(reversed_keys, fields, "id") == tokens


@given(metadata)
def test_metadata_comes_back_as_it_was_given(given_: Any) -> None:
    record = checked(given_)
    assert same(from_text(as_text(record)), record)


@given(
    st.floats(-1e6, 1e6),
    st.floats(1e-3, 1e5),
    st.floats(1e-2, 1e4),
    st.floats(-1e7, 1e7) | st.integers(-(10**30), 10**30),
    st.floats(-1e7, 1e7) | st.integers(-(10**30), 10**30),
    st.sampled_from(["gt", "gte", "lt", "lte"]),
)
@settings(max_examples=1000, deadline=None)
def test_a_range_covers_every_number_that_compares_so(
    low: float, width: float, step: float, value: float, operand: float, ordering: Any
) -> None:
    span = Range(low, low + width, step)
    covering = set(span.covering(ordering, operand))
    assert len(covering) <= 6 * span.levels + 4
    if compares(ordering, value, operand):
        assert covering & set(span.buckets(value))


@given(st.lists(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3)))
def test_everything_can_be_sorted(values: list[Any]) -> None:
    ordered = sorted(values, key=order_key)
    for first, second in pairwise(ordered):
        assert not compares("gt", first, second)


@given(st.datetimes(timezones=st.just(UTC)), st.datetimes(timezones=st.just(UTC)))
def test_times_compare_as_times(one: datetime, other: datetime) -> None:
    assert moment(one.isoformat()) == one
    assert compares("lt", one.isoformat(), other.isoformat()) == (one < other)
    assert compares("gte", one.isoformat(), other) == (one >= other)
    assert same(one.isoformat(), one)
