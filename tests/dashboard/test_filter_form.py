"""The form writes filters that the service takes, and reads back what it has written."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xtrace_core.metadata_filter import parse_filter
from xtrace_server.dashboard.filter_form import (
    FACET_WORDS,
    FACETS,
    TAG_WORDS,
    Condition,
    FilterForm,
    parse,
    read,
    write,
)

VALUES = st.text("abc{}\"'$\\ é", min_size=1, max_size=8).map(lambda text: text.strip() or "x")
TAG_CONDITIONS = st.builds(Condition, st.sampled_from(["tag1", "tag2"]), st.sampled_from(list(TAG_WORDS)), VALUES)
FACET_CONDITIONS = st.builds(
    Condition, st.just(FACETS), st.sampled_from([word for word in FACET_WORDS if word != "count is"]), VALUES
)


def normal(one: Condition) -> Condition:
    return one if one.needs_value else Condition(one.field, one.word)


@given(st.lists(TAG_CONDITIONS | FACET_CONDITIONS, min_size=1, max_size=6))
def test_what_is_written_is_a_filter_and_is_read_back(conditions: list[Condition]) -> None:
    text = write(conditions)
    parse_filter(text)
    again = parse(text)
    assert again is not None
    assert sorted(map(repr, again)) == sorted(map(repr, map(normal, conditions)))


@pytest.mark.parametrize(
    ("conditions", "text"),
    [
        ([], ""),
        ([Condition("tag1", "equals", "")], ""),
        ([Condition("tag1", "equals", "a")], '{"tag1": "a"}'),
        (
            [Condition("tag2", "at least", "1"), Condition("tag2", "at most", "2")],
            '{"tag2": {"$gte": "1", "$lte": "2"}}',
        ),
        (
            [Condition("tag1", "does not equal", "a"), Condition("tag1", "does not equal", "b")],
            '{"$and": [{"tag1": {"$ne": "a"}}, {"tag1": {"$ne": "b"}}]}',
        ),
        ([Condition(FACETS, "has none of", "a, b")], '{"facets": {"$none": ["a", "b"]}}'),
        ([Condition(FACETS, "count is", "2")], '{"facets": {"$size": 2}}'),
        ([Condition("tag5", "is not set")], '{"tag5": {"$exists": false}}'),
    ],
)
def test_conditions_become_this_text(conditions: list[Condition], text: str) -> None:
    assert write(conditions) == text


@pytest.mark.parametrize(
    "text",
    ['{"$or": [{"tag1": "a"}]}', '{"$not": {}}', "[]", "x", '{"tag1": {"$in": ["a,b"]}}', '{"other": 1}', "{" * 5000],
)
def test_what_the_form_cannot_express_stays_text(text: str) -> None:
    assert read({"filter": text}) == FilterForm(text, None)


@pytest.mark.parametrize(
    ("sent", "text", "values"),
    [
        ({"f1": "tag1", "o1": "equals", "v1": "a", "filter": "", "written": ""}, '{"tag1": "a"}', ["a"]),
        ({"f1": "tag1", "o1": "equals", "v1": "a", "filter": '{"tag2": "b"}', "written": ""}, '{"tag2": "b"}', ["b"]),
        ({"f1": "tag1", "o1": "equals", "v1": "a", "add": "1"}, '{"tag1": "a"}', ["a", ""]),
        ({"f1": "tag1", "o1": "equals", "v1": "a", "remove": "1"}, "", []),
        ({"f1": "facets", "o1": "equals", "v1": "a"}, '{"facets": "a"}', ["a"]),
        ({"filter": '{"tag1": "a"}'}, '{"tag1": "a"}', ["a"]),
        ({"add": "1"}, "", [""]),
    ],
)
def test_the_text_goes_before_the_conditions_where_it_was_changed(
    sent: dict[str, Any], text: str, values: list[str]
) -> None:
    form = read(sent)
    assert form.text == text
    assert [one.value for one in form.conditions or []] == values
