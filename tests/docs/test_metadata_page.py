"""The page on metadata names every operator and limit that the code has, and nothing else; its examples run."""

import re
from pathlib import Path
from typing import Any

import pytest

from docs.examples import ROOT, examples, run
from xtrace_core import metadata_filter
from xtrace_core.metadata_filter import FACET_OPERATORS, TAG_OPERATORS, parse_filter
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.inference.embedding import Embedding
from xtrace_server.credentials import Credentials

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


async def test_private_metadata(
    credentials: Credentials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = examples(ROOT / "docs" / "metadata.md")
    async with XTraceIntegration(
        credentials.org_id, credentials.api_key, credentials.admin_key, credentials.api_url
    ) as xtrace:
        kb_id = (await xtrace.create_kb("kb")).id
        embed = Embedding("wordllama", "l2_supercat", 256)
        namespace: dict[str, Any] = {"xtrace": xtrace, "kb_id": kb_id, "embed": embed}
        namespace = await run(blocks.pop("private"), namespace)
        code = blocks.pop("private filters")
        namespace = await run(code, namespace)
        assert blocks == {}
        shown = re.findall(r"print\(.*  # (.+)", code)
        assert [line for line in capsys.readouterr().out.splitlines() if line in shown] == shown
        left = await namespace["retriever"].meta_search({}, kb_id)
    assert [(chunk["chunk_id"], chunk["meta_data"]) for chunk in left] == [(1, {"tag1": "anna"})]
