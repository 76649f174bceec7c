"""Hypothesis strategies for records' metadata and for `where`, from few fields and values, so that things meet."""

from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from xtrace_sdk.collection.filterable import Range

_TIME = "2026-03-01T12:00:00Z"
scalars = st.sampled_from(
    [None, True, False, 0, 1, 1.0, -0.0, 2, 2.5, 7, 2**53 + 1, "", "a", "A", "ab", "1", "true", "a%", "é", _TIME]
) | st.sampled_from(["2026-03-01", "2026-03-01T13:00:00+01:00", "2026-03-02"])
elements = st.lists(scalars, max_size=3)
values = scalars | elements | st.dictionaries(st.sampled_from(["x", "y"]), scalars | elements, max_size=2)
metadata = st.dictionaries(st.sampled_from(["a", "b", "c"]), values, max_size=3)
paths = st.sampled_from(["a", "b", "c", "a.x", "b.y", "d"])

operands = scalars | st.just(datetime(2026, 3, 1, 12, tzinfo=UTC))
_comparable = operands.filter(lambda one: one is not None and not isinstance(one, bool))
_texts = st.sampled_from(["", "a", "A", "ab", "1", "%", "a_", "%b", "a\\%", "é"])
_lists = st.lists(operands, max_size=3)
conditions = st.one_of(
    operands,
    elements,
    st.dictionaries(st.sampled_from(["x", "y"]), scalars, max_size=2),
    st.dictionaries(st.sampled_from(["$eq", "$ne", "$contains"]), operands, min_size=1),
    st.dictionaries(st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), _comparable, min_size=1, max_size=2),
    st.dictionaries(st.sampled_from(["$in", "$nin", "$any", "$all", "$none"]), _lists, min_size=1, max_size=2),
    st.dictionaries(
        st.sampled_from(["$icontains", "$begins_with", "$ends_with", "$like", "$ilike"]), _texts, min_size=1
    ),
    st.fixed_dictionaries({"$between": st.lists(_comparable, min_size=2, max_size=2)}),
    st.fixed_dictionaries({"$exists": st.booleans()}),
    st.fixed_dictionaries({"$size": st.integers(0, 3)}),
    st.fixed_dictionaries({"$not": st.dictionaries(st.sampled_from(["$eq", "$gt", "$ne"]), _comparable, min_size=1)}),
)
_fields = st.dictionaries(paths, conditions, max_size=2)
wheres = st.recursive(
    _fields,
    lambda inner: st.builds(
        lambda left, right: left | right,
        _fields,
        st.fixed_dictionaries(
            {},
            optional={
                "$and": st.lists(inner, min_size=1, max_size=3),
                "$or": st.lists(inner, min_size=1, max_size=3),
                "$nor": st.lists(inner, min_size=1, max_size=3),
                "$not": inner,
            },
        ),
    ),
    max_leaves=6,
)

filterable: st.SearchStrategy[Any] = st.one_of(
    st.booleans(),
    st.lists(st.sampled_from(["a", "b", "c", "a.x"])),
    st.just({"*": True, "a": Range(0, 5, 1), "b.y": Range(-1, 3, 0.5)}),
    st.just({"a": Range(0, 2, 1), "c": True}),
    st.just({"*": True, "a.x": False, "c": False}),
    st.just({"b": True, "b.y": False, "a": False, "a.x": True}),
)
