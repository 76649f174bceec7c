"""The page on filters names every operator and limit that the code has, and nothing else."""

import re

import pytest

from docs.examples import ROOT
from xtrace_core import metadata_filter
from xtrace_core.metadata_filter import FACET_OPERATORS, TAG_OPERATORS, parse_filter

PAGE = (ROOT / "docs" / "metadata.md").read_text()


def table(heading: str) -> str:
    """The table whose first column has that heading."""
    start = PAGE.index(f"| {heading} |")
    return PAGE[start : PAGE.index("\n\n", start)]


def test_every_operator_is_documented_and_every_documented_one_exists() -> None:
    logical = {"$and", "$or", "$nor", "$not"}
    assert set(re.findall(r"\$\w+", table("on a tag"))) == set(TAG_OPERATORS)
    assert set(re.findall(r"\$\w+", table("on `facets`"))) == set(FACET_OPERATORS)
    assert set(re.findall(r"\$\w+", table("logical"))) == logical


@pytest.mark.parametrize("block", re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)[1:])
def test_the_filters_on_the_page_are_valid(block: str) -> None:
    parse_filter(block)


def test_the_limits_are_those_of_the_code() -> None:
    limits = [int(number.replace(",", "")) for number in re.findall(r"\| ([\d,]+) \|", PAGE[PAGE.index("## Limits") :])]
    assert limits == [metadata_filter.MAX_DEPTH, metadata_filter.MAX_CONDITIONS, metadata_filter.MAX_VALUES]
