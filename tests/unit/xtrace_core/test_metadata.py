"""Chunk metadata: what is accepted, and the form in which it is kept."""

from typing import Any

import pytest
from msgspec import UNSET

from xtrace_core.metadata import InvalidMetaData, normalised, parse_meta_data, parse_patch
from xtrace_core.wire import MetaData


def test_null_and_empty_facets_are_not_set_and_the_empty_tag_is() -> None:
    assert parse_meta_data({"tag1": None, "tag2": "", "facets": []}) == MetaData(tag2="")
    assert parse_meta_data(None) == normalised(None) == MetaData()


def test_facets_keep_their_order_without_duplicates() -> None:
    assert parse_meta_data({"facets": ["b", "a", "b", ""]}).facets == ["b", "a", ""]


def test_a_patch_keeps_null() -> None:
    patch = parse_patch({"tag1": None, "facets": None})
    assert (patch.tag1, patch.facets, patch.tag2) == (None, None, UNSET)


def test_normalising_twice_changes_nothing() -> None:
    once = parse_meta_data({"tag1": "a", "facets": ["x", "x"]})
    assert normalised(once) == once


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"tag6": "x"}, "tag6"),
        ({"tag1": 1}, "tag1"),
        ({"tag1": ["a"]}, "tag1"),
        ({"facets": "a"}, "facets"),
        ({"facets": ["a", 1]}, "facets"),
        ({"tag3": "a\0"}, "tag3 has a NUL"),
        ({"facets": ["a", "\0"]}, "facets has a NUL"),
        ([], "meta_data"),
        ("x", "meta_data"),
    ],
)
def test_what_is_no_metadata_is_named(value: Any, words: str) -> None:
    with pytest.raises(InvalidMetaData, match=words):
        parse_meta_data(value)
