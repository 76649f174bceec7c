"""Filters on columns of metadata decide as the plain filter does, record by record."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from support.where_strategies import conditions, metadata, values, wheres
from xtrace_sdk.collection.columns import matching_rows
from xtrace_sdk.collection.matching import matches
from xtrace_sdk.collection.metadata import as_text, checked
from xtrace_sdk.collection.where import parse_where
from xtrace_sdk.x_vec.chunks.envelope import Content, RecordPart
from xtrace_sdk.x_vec.local.segment import Row, Segment

EXAMPLES = 700 if "XTRACE_TEST_FULL" in os.environ else 400


def segment_of(records: Sequence[Any]) -> Segment:
    """A segment of records named r0, r1, …; None stands for a chunk that is not a record."""
    parts = [
        None if one is None else RecordPart(f"r{i}", "", as_text(checked(one)), bytes(16))
        for i, one in enumerate(records)
    ]
    return Segment.of([Row(i, 0, Content("", record=part)) for i, part in enumerate(parts)], 0)


def plainly(where: Any, records: Sequence[Any]) -> list[bool]:
    tree = parse_where(where)
    return [
        matches(tree, {} if one is None else checked(one), "" if one is None else f"r{i}")
        for i, one in enumerate(records)
    ]


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(metadata | st.none(), min_size=1, max_size=6), st.lists(wheres, min_size=1, max_size=3))
def test_filters_decide_as_record_by_record(records: list[Any], filters: list[Any]) -> None:
    segment = segment_of(records)
    for where in filters:  # the later ones use columns that are in memory
        assert matching_rows(segment, parse_where(where)).tolist() == plainly(where, records)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(values, min_size=1, max_size=8), conditions, st.booleans())
def test_every_condition_decides_as_value_by_value(column: list[Any], condition: Any, is_negated: bool) -> None:
    records = [{"a": value} for value in column]
    where = {"$not": {"a": condition}} if is_negated else {"a": condition}
    assert matching_rows(segment_of(records), parse_where(where)).tolist() == plainly(where, records)


def test_ids_are_a_column_and_few_columns_are_kept() -> None:
    records = [{f"f{n}": n for n in range(50)} for _ in range(3)]
    segment = segment_of(records)
    assert matching_rows(segment, parse_where({"$id": {"$in": ["r0", "r2"]}})).tolist() == [True, False, True]
    for number in range(50):
        assert matching_rows(segment, parse_where({f"f{number}": number})).all()
    assert len(segment.derived["columns"]) <= 32
    everywhere = {f"f{number}": number for number in range(50)}
    assert matching_rows(segment, parse_where(everywhere)).all()


def test_whole_numbers_beyond_floats_compare_exactly() -> None:
    large = [2**53, 2**53 + 1, 2.0**53, 10**300]
    mask = matching_rows(segment_of([{"n": one} for one in large]), parse_where({"n": {"$gt": 2**53}}))
    assert np.flatnonzero(mask).tolist() == [1, 3]
