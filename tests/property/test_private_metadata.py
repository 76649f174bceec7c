"""The same filters over clear and private metadata, as SQLite evaluates them, against the plain-Python evaluator."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.database import open_store, without_limit
from support.filter_strategies import filters, lists, meta_data, texts
from support.reference_filter import matches
from xtrace_core.metadata_filter import FACET_OPERATORS, TAG_OPERATORS
from xtrace_sdk.errors import NotOnPrivateField
from xtrace_sdk.x_vec.chunks.private_metadata import (
    FIELDS,
    PrivateMetaData,
    clear_meta_data,
    hidden_filter,
    hidden_meta_data,
    private_part,
)
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
from xtrace_server.storage import chunks
from xtrace_server.storage.schema import chunk_id_of

CHOICES: list[PrivateMetaData] = [False, True, ["tag1", "facets"], ["tag5"]]
REFUSED = {"$gt", "$gte", "$lt", "$lte", "$begins_with", "$contains"}
"""On tags; on facets every operator asks for equality."""


def new_context(private_metadata: PrivateMetaData) -> ExecutionContext:
    return ExecutionContext.create(
        PassphraseKeyProvider("passphrase", insecure_log2_n=1),
        "paillier",
        16,
        256,
        private_metadata=private_metadata,
        insecure_allow_weak_parameters=True,
    )


@pytest.fixture(scope="module", params=CHOICES, ids=["none", "all", "tag1 and facets", "tag5"])
def context(request: pytest.FixtureRequest) -> ExecutionContext:
    return new_context(request.param)


def conditions(filter_: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Every `(field, operator)` of a filter."""
    for key, operand in filter_.items():
        if key == "$not":
            yield from conditions(operand)
        elif key in ("$and", "$or", "$nor"):
            for part in operand:
                yield from conditions(part)
        elif isinstance(operand, dict):
            yield from ((key, operator) for operator in operand)


def can_be_answered(filter_: dict[str, Any], private: tuple[str, ...]) -> bool:
    return not any(
        field in private and field != "facets" and operator in REFUSED for field, operator in conditions(filter_)
    )


async def found(stored: list[dict[str, Any]], asked: list[dict[str, Any]]) -> list[list[int]]:
    with TemporaryDirectory() as folder:
        async with open_store(Path(folder)) as store:
            await store.add(stored)
            async with store.database.look_up() as connection:
                return [
                    [
                        chunk_id_of(pk)
                        for pk in await chunks.matching_pks(connection, store.candidates(filter_), without_limit)
                    ]
                    for filter_ in asked
                ]


def kept(one: dict[str, Any]) -> dict[str, Any]:
    """Metadata as a chunk holds it."""
    return {key: list(dict.fromkeys(value)) if key == "facets" else value for key, value in one.items() if value != []}


# More of what hashes can answer than chance would make.
equalities = st.dictionaries(
    st.sampled_from(["tag1", "tag2", "tag5"]),
    texts
    | st.dictionaries(st.sampled_from(["$eq", "$ne"]), texts, min_size=1)
    | st.fixed_dictionaries({}, optional={"$in": lists, "$nin": lists, "$exists": st.booleans()}).filter(bool),
    max_size=2,
)


@settings(max_examples=10, deadline=None)
@given(
    st.lists(meta_data, min_size=1, max_size=12), st.lists(filters | equalities, min_size=1, max_size=25), st.booleans()
)
def test_private_fields_are_filtered_as_clear_ones_are(
    context: ExecutionContext, stored: list[dict[str, Any]], asked: list[dict[str, Any]], as_json: bool
) -> None:
    plain = [kept(one) for one in stored]
    hidden = [hidden_meta_data(context, one) for one in plain]
    answered = []
    for filter_ in asked:
        if can_be_answered(filter_, context.private_metadata):
            answered.append(filter_)
        else:
            with pytest.raises(NotOnPrivateField):
                hidden_filter(context, filter_)
    expected = [[i for i, one in enumerate(plain, 1) if matches(filter_, one)] for filter_ in answered]
    sent = [hidden_filter(context, json.dumps(filter_) if as_json else filter_) for filter_ in answered]
    assert asyncio.run(found(hidden, sent)) == expected


@settings(max_examples=50, deadline=None)
@given(meta_data)
def test_clear_values_come_back_from_the_hashes_and_the_content(
    context: ExecutionContext, stored: dict[str, Any]
) -> None:
    plain = kept(stored)
    hidden = hidden_meta_data(context, plain)
    assert clear_meta_data(context, hidden, private_part(context, plain)) == plain
    assert shown(hidden, context.private_metadata).isdisjoint(shown(plain, context.private_metadata) - {""})


def shown(meta_data: dict[str, Any], fields: tuple[str, ...]) -> set[str]:
    """The texts in these fields."""
    values = [meta_data[field] for field in fields if field in meta_data]
    return {text for value in values for text in ([value] if isinstance(value, str) else value)}


def test_every_operator_is_either_answered_or_refused() -> None:
    context = new_context(True)
    operands: dict[str, Any] = {"$in": ["v"], "$nin": ["v"], "$exists": True}
    for operator in TAG_OPERATORS:
        filter_ = {"tag3": {operator: operands.get(operator, "v")}}
        if operator in REFUSED:
            with pytest.raises(NotOnPrivateField, match=rf"\{operator} on tag3: tag3 is private.*\$exists"):
                hidden_filter(context, filter_)
        else:
            assert hidden_filter(context, filter_).keys() == filter_.keys()
    sets = {"$contains": "v", "$size": 1, "$exists": True}
    for operator in FACET_OPERATORS:
        hidden_filter(context, {"facets": {operator: sets.get(operator, ["v"])}})


def test_fields_are_hashed_apart_and_contexts_too() -> None:
    context, other = new_context(True), new_context(True)
    one = hidden_meta_data(context, {field: ["v"] if field == "facets" else "v" for field in FIELDS})
    hashes = [one[field][0] if field == "facets" else one[field] for field in FIELDS]
    assert len(set(hashes)) == len(FIELDS)
    assert hidden_meta_data(other, {"tag1": "v"}) != hidden_meta_data(context, {"tag1": "v"})
