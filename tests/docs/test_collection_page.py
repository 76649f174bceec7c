"""The pages on collections name every operator, limit and hash that the code has, and nothing else."""

import json
import re
from typing import Any

import pytest

from docs.examples import ROOT
from xtrace_core.metadata_filter import MAX_CONDITIONS, MAX_DEPTH, MAX_VALUES
from xtrace_sdk.collection import metadata
from xtrace_sdk.collection.tokens import COUNTS, Tokens
from xtrace_sdk.collection.upserting import BATCH_SIZE
from xtrace_sdk.collection.where import ID, OPERATORS, TEXT, parse_where
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.keys.mac import Mac

PAGE = (ROOT / "docs" / "collection.md").read_text()
FORMATS = (ROOT / "docs" / "formats.md").read_text()
SECURITY = (ROOT / "docs" / "security.md").read_text()


def table(page: str, heading: str) -> str:
    """The table whose first column has that heading."""
    start = page.index(f"| {heading} |")
    return page[start : page.index("\n\n", start)]


def test_every_operator_is_documented_and_every_documented_one_exists() -> None:
    assert set(re.findall(r"\$\w+", table(PAGE, "condition"))) == set(OPERATORS)
    assert set(re.findall(r"\$\w+", table(PAGE, "logical"))) == {"$and", "$or", "$nor", "$not"}
    assert all(f"`{name}`" in PAGE for name in (ID, TEXT))


@pytest.mark.parametrize("block", re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL))
def test_the_filters_on_the_page_are_valid(block: str) -> None:
    assert parse_where(block) == parse_where(json.loads(block))


def test_the_limits_are_those_of_the_code() -> None:
    words = " ".join(PAGE.split())
    assert f"may nest {MAX_DEPTH} levels deep and contain {MAX_CONDITIONS} operators and {MAX_VALUES:,} values" in words
    assert f"at most 1 MiB and {metadata.MAX_DEPTH} levels deep" in PAGE
    assert metadata.MAX_BYTES == 1 << 20
    assert f"Up to {BATCH_SIZE} records are one transaction" in PAGE
    assert f"A record has at most {COUNTS[-1]:,} hashes" in PAGE


def test_the_counts_of_hashes_are_those_of_the_code() -> None:
    (listed,) = re.findall(r"padded to ([\d, \n]+(?:or [\d,]+)?)", FORMATS)
    numbers = [int(one.replace(",", "")) for one in re.findall(r"\d+(?:,\d{3})?", listed)]
    assert numbers == list(COUNTS)
    assert ", ".join(map(str, COUNTS[:7])) in SECURITY


def test_the_hashes_of_the_formats_page_are_those_that_are_made() -> None:
    class Fixed:
        """A context of which the metadata key is known."""

        _keys: Any = type("Keys", (), {"pseudonyms": Mac(bytes(range(32)))})

        pseudonym = ExecutionContext.pseudonym

    made = Tokens(Fixed(), "")  # type: ignore[arg-type]
    rows = dict(re.findall(r"^\| `([^`]+)` \| `(#[0-9a-f]{32})` \|$", FORMATS, re.MULTILINE))
    assert rows["records"] == made.all_records
    assert rows["has5:topic"] == made.has("topic")
    assert rows["is5:topicsfinance"] == made.equals("topic", "finance")
    assert rows["in4:tagsn1.5"] == made.element("tags", 1.5)
    assert rows["range6:amount1:19"] == made.bucket("amount", (1, 19))
