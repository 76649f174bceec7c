"""The evaluator of parsed filters against the one that reads their JSON form."""

from typing import Any

from hypothesis import given, settings

from support.filter_strategies import filters, meta_data
from support.reference_filter import matches as reference_matches
from xtrace_core.filter_matching import matches
from xtrace_core.metadata_filter import parse_filter


@settings(max_examples=500, deadline=None)
@given(filters, meta_data)
def test_the_evaluator_and_the_reference_agree(filter_: dict[str, Any], stored: dict[str, Any]) -> None:
    stored = {key: list(dict.fromkeys(value)) if key == "facets" else value for key, value in stored.items()}
    assert matches(parse_filter(filter_), stored) == reference_matches(filter_, stored)
