"""How values are hidden: known answers, and what may not leave a client that has no keys."""

import re
from typing import Any

import pytest

from docs.examples import ROOT
from xtrace_core import metadata, wire
from xtrace_sdk.errors import InvalidMetaData, NotOnPrivateField
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.service.private_fields import PrivateFields
from xtrace_sdk.x_vec.chunks.private_metadata import hidden_filter, hidden_meta_data
from xtrace_sdk.x_vec.contexts.context_keys import ContextKeys
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.retrievers.retriever import Retriever
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

HASH = "#888ad2698a384ec57dc6489f8a331e43"
# From `openssl dgst -sha256 -mac HMAC -macopt hexkey:00010203…1f` over the JSON arrays.
KNOWN = {
    ("tag1", "user_123"): HASH,
    ("tag1", 'é "q"'): "#fc847ad3745cf95dc605ddfc696933b3",
    ("facets", "finance"): "#2da1c9fbea98328f765cb73ec47ece89",
}


def new_context(*fields: str) -> ExecutionContext:
    provider = PassphraseKeyProvider("passphrase", insecure_log2_n=1)
    return ExecutionContext.create(
        provider, "paillier", 16, 256, private_metadata=fields, insecure_allow_weak_parameters=True
    )


@pytest.fixture(scope="module")
def known() -> ExecutionContext:
    """A context whose metadata key is 00 01 … 1f."""
    keys = new_context("tag1", "facets")._keys
    return ExecutionContext(
        ContextKeys(keys.public, keys.id, keys.homomorphic, keys.content, bytes(range(32))), None, None
    )


@pytest.mark.parametrize(("field", "text"), KNOWN)
def test_hashes_are_the_known_answers(known: ExecutionContext, field: str, text: str) -> None:
    meta_data: dict[str, Any] = {field: [text] if field == "facets" else text}
    hidden = hidden_meta_data(known, meta_data)[field]
    assert (hidden[0] if field == "facets" else hidden) == KNOWN[field, text]
    assert hidden_filter(known, {field: text}) == {field: KNOWN[field, text]}


def test_the_page_on_formats_has_the_known_answers() -> None:
    page = (ROOT / "docs" / "formats.md").read_text()
    rows = re.findall(r"^\| `(tag\d|facets)` \| `(.+)` \| `(#[0-9a-f]{32})` \|$", page, re.MULTILINE)
    assert {(field, text): hash_ for field, text, hash_ in rows} == KNOWN


def test_a_filter_is_translated_wherever_a_value_stands(known: ExecutionContext) -> None:
    one, many = KNOWN["tag1", "user_123"], [KNOWN["facets", "finance"]]
    filter_ = {
        "tag1": {"$eq": "user_123", "$nin": ["user_123", ""], "$exists": True},
        "tag2": {"$begins_with": "user_123"},
        "$not": {"$or": [{"facets": {"$subset": ["finance"], "$size": 1}}, {"tag1": "user_123"}]},
    }
    assert hidden_filter(known, filter_) == {
        "tag1": {"$eq": one, "$nin": [one, ""], "$exists": True},
        "tag2": {"$begins_with": "user_123"},
        "$not": {"$or": [{"facets": {"$subset": many, "$size": 1}}, {"tag1": one}]},
    }
    assert hidden_filter(known, '{"tag1": "user_123"}') == {"tag1": one}
    assert (hidden_filter(known, None), hidden_filter(known, {}), hidden_filter(known, "null")) == (None, {}, None)


# Where there are no keys


@pytest.fixture(params=[DataLoader, Retriever])
def nowhere(request: pytest.FixtureRequest, known: ExecutionContext) -> XTraceIntegration:
    """An integration that knows the context, and no service: what is sent is an error of another kind."""
    integration = XTraceIntegration("org", "key", api_url="http://127.0.0.1:9")
    request.param(known, integration)
    return integration


@pytest.mark.parametrize(
    "filter_",
    [
        {"tag1": "user_123"},
        {"$not": {"$or": [{"tag2": "x"}, {"tag1": {"$in": [HASH, "user_123"]}}]}},
        {"facets": {"$any": ["finance"]}},
        {"facets": {"$all": ["finance"]}},
        {"tag1": {"$begins_with": HASH}},
        '{"tag1": {"$ne": "user_123"}}',
    ],
    ids=str,
)
async def test_a_filter_with_clear_values_is_refused(
    filter_: Any, nowhere: XTraceIntegration, known: ExecutionContext
) -> None:
    for call in (
        nowhere.meta_search("kb", filter_, known.id),
        nowhere.meta_search_paginated("kb", known.id, filter_),
        anext(nowhere.stream_hamming_distances("kb", known.id, [[1]], filter_)),
        anext(nowhere.stream_hamming_distances("kb", known.id, [[1], [2]], filter_)),
        nowhere.compute_hamming_distances([1], known.id, "kb", filter_),
        nowhere.delete_chunks_by_meta("kb", known.id, filter_),
        nowhere.patch_chunks_by_meta("kb", known.id, filter_, {"tag2": "x"}),
    ):
        with pytest.raises(NotOnPrivateField, match=r"plaintext value of (tag1|facets)"):
            await call


@pytest.mark.parametrize(
    "meta_data", [{"tag1": "user_123"}, {"facets": [KNOWN["facets", "finance"], "finance"]}], ids=str
)
async def test_clear_metadata_is_refused(meta_data: Any, nowhere: XTraceIntegration, known: ExecutionContext) -> None:
    chunk = {"chunk_content": "x", "meta_data": meta_data}
    for call in (
        nowhere.insert_chunks("kb", [chunk], known.id, index=[[1]]),
        nowhere.store_db([chunk], [[1]], "kb", known.id),
        nowhere.update_chunks([[1]], [{"chunk_id": 1, **chunk}], known.id, "kb"),
        nowhere.patch_chunks("kb", known.id, [{"chunk_id": 1, "meta_data": meta_data}]),
        nowhere.patch_chunks_by_meta("kb", known.id, {}, meta_data),
    ):
        with pytest.raises(InvalidMetaData, match=r"plaintext value of (tag1|facets)"):
            await call


async def test_sorting_by_hashes_is_refused(nowhere: XTraceIntegration, known: ExecutionContext) -> None:
    with pytest.raises(NotOnPrivateField, match="sort_by is tag1"):
        await nowhere.meta_search_paginated("kb", known.id, {}, sort_by="tag1")


@pytest.mark.parametrize(
    "meta_data", [{"tag1": HASH}, {"tag1": ""}, {"tag1": None, "facets": None}, {"tag2": "clear"}], ids=str
)
def test_hashes_empty_values_other_fields_and_other_contexts_pass(meta_data: dict[str, Any]) -> None:
    fields = PrivateFields()
    fields.declare("private", ["tag1", "facets"])
    filter_ = {"tag1": {"$in": [HASH, ""]}, "tag2": "clear", "facets": {"$size": 1}}
    fields.check(wire.PatchByMetaData("kb", "private", filter_, metadata.parse_patch(meta_data)))
    fields.check(wire.PatchByMetaData("kb", "another", {"tag1": "clear"}, metadata.parse_patch({"tag1": "clear"})))
