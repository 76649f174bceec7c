"""The filter language: what parses to which tree, and what is refused in which words."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.filter_strategies import filters
from xtrace_core.metadata_filter import (
    EVERY_CHUNK,
    FACET_OPERATORS,
    MAX_CONDITIONS,
    MAX_DEPTH,
    MAX_VALUES,
    TAG_OPERATORS,
    AllFacets,
    And,
    AnyFacet,
    FacetCount,
    Filter,
    InvalidFilter,
    Not,
    Or,
    TagCompare,
    TagExists,
    TagIn,
    parse_filter,
)

A = TagCompare("tag1", "eq", "a")
B = TagCompare("tag2", "eq", "b")


@pytest.mark.parametrize(
    ("written", "tree"),
    [
        ({}, EVERY_CHUNK),
        (None, EVERY_CHUNK),
        ("{}", EVERY_CHUNK),
        ({"tag1": "a"}, A),
        ({"tag1": {"$eq": "a"}}, A),
        ('{"tag1": "a"}', A),
        ({"tag1": {"$ne": "a"}}, Not(A)),
        ({"tag1": {"$gt": "a", "$lte": "b"}}, And((TagCompare("tag1", "gt", "a"), TagCompare("tag1", "lte", "b")))),
        ({"tag5": {"$in": ["a", "b", "a"]}}, TagIn("tag5", ("a", "b"))),
        ({"tag5": {"$nin": []}}, Not(TagIn("tag5", ()))),
        ({"tag1": {"$begins_with": "a%"}}, TagCompare("tag1", "begins_with", "a%")),
        ({"tag1": {"$contains": ""}}, TagCompare("tag1", "contains", "")),
        ({"tag1": {"$exists": True}}, TagExists("tag1")),
        ({"tag1": {"$exists": False}}, Not(TagExists("tag1"))),
        ({"facets": "x"}, AnyFacet(("x",))),
        ({"facets": {"$contains": "x"}}, AnyFacet(("x",))),
        ({"facets": {"$subset": ["x", "y", "x"]}}, AllFacets(("x", "y"))),
        ({"facets": {"$all": ["x"]}}, AllFacets(("x",))),
        ({"facets": {"$any": ["x", "y"]}}, AnyFacet(("x", "y"))),
        ({"facets": {"$none": ["x"]}}, Not(AnyFacet(("x",)))),
        ({"facets": {"$size": 2}}, FacetCount(2)),
        ({"facets": {"$exists": True}}, Not(FacetCount(0))),
        ({"facets": {"$exists": False}}, FacetCount(0)),
        ({"$and": [{"tag1": "a"}, {"tag2": "b"}]}, And((A, B))),
        ({"tag1": "a", "tag2": "b"}, And((A, B))),
        ({"$or": [{"tag1": "a"}, {"tag2": "b"}]}, Or((A, B))),
        ({"$nor": [{"tag1": "a"}, {"tag2": "b"}]}, Not(Or((A, B)))),
        ({"$not": {"tag1": "a"}}, Not(A)),
        ({"tag2": "b", "$not": {"tag1": "a"}}, And((B, Not(A)))),
    ],
)
def test_a_filter_parses_to_its_tree(written: Any, tree: Filter) -> None:
    assert parse_filter(written) == tree


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ({"tag6": "x"}, "meta_filter.tag6 is neither a field"),
        ({"$xor": []}, r"\$xor is neither a field nor an operator"),
        ({"tag1": {"$regex": "x"}}, r"\$regex is not an operator on tag1"),
        ({"facets": {"$eq": "x"}}, r"\$eq is not an operator on facets"),
        ({"tag1": {"$size": 1}}, r"\$size"),
        ({"tag1": 5}, "tag1 is the number 5, expected a string"),
        ({"tag1": None}, "tag1 is null"),
        ({"tag1": ["a"]}, "tag1 is a list"),
        ({"tag1": {}}, "tag1 is an empty object"),
        ({"tag1": {"$in": "a"}}, r"\$in is a string, expected a list"),
        ({"tag1": {"$in": ["a", 1]}}, r"\$in\[1\] is the number 1"),
        ({"tag1": {"$exists": 1}}, r"\$exists is the number 1, expected true or false"),
        ({"facets": ["a"]}, "facets is a list"),
        ({"facets": {"$size": -1}}, r"\$size is the number -1"),
        ({"facets": {"$size": True}}, r"\$size is true or false"),
        ({"facets": {"$size": 1.0}}, r"\$size is a number"),
        ({"$and": []}, r"\$and is an empty list"),
        ({"$or": {"tag1": "a"}}, r"\$or is an object"),
        ({"$or": [{"tag1": "a"}, {"tag9": "a"}]}, r"meta_filter\.\$or\[1\]\.tag9"),
        ({"$not": []}, r"\$not is an empty list, expected an object"),
        ({"tag1": "a\0"}, "NUL"),
        ('{"tag1": "a\\u0000"}', "NUL"),
        ({"x" * 1000: "a"}, "x{64}…"),
        ("", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "an empty list"),
        (5, "the number 5"),
        (True, "true or false"),
    ],
)
def test_a_bad_filter_is_named_where_it_is_bad(written: Any, words: str) -> None:
    with pytest.raises(InvalidFilter, match=words):
        parse_filter(written)


def nested(depth: int) -> dict[str, Any]:
    filter_: dict[str, Any] = {"tag1": "a"}
    for _ in range(depth - 1):
        filter_ = {"$not": filter_}
    return filter_


def test_depth_and_width_have_bounds() -> None:
    parse_filter(nested(MAX_DEPTH))
    with pytest.raises(InvalidFilter, match="deeper"):
        parse_filter(nested(MAX_DEPTH + 1))
    with pytest.raises(InvalidFilter, match="more than"):
        parse_filter({"$or": [{"tag1": "a"}] * MAX_CONDITIONS})
    with pytest.raises(InvalidFilter, match="more than"):
        parse_filter({"$or": [{}] * (MAX_CONDITIONS + 1)})
    parse_filter({"tag1": {"$in": ["a"] * MAX_VALUES}})
    with pytest.raises(InvalidFilter, match="more than"):
        parse_filter({"$and": [{"tag1": {"$in": ["a"] * (MAX_VALUES // 2 + 1)}}] * 2})


def test_the_operators_are_those_of_the_contract() -> None:
    ordered = {"$eq", "$ne", "$nin", "$gt", "$gte", "$lt", "$lte"}
    assert set(TAG_OPERATORS) == ordered | {"$in", "$begins_with", "$contains", "$exists"}
    assert set(FACET_OPERATORS) == {"$contains", "$subset", "$all", "$any", "$none", "$size", "$exists"}


@given(filters)
def test_every_valid_filter_parses(filter_: dict[str, Any]) -> None:
    parse_filter(filter_)


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["tag1", "facets", "$and", "$not", "$in", "$size", "x"]), inner, max_size=3)
    ),
)


@given(json)
def test_anything_else_is_an_invalid_filter_and_nothing_worse(value: Any) -> None:
    with contextlib.suppress(InvalidFilter):
        parse_filter(value)
