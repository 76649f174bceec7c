"""Hypothesis strategies for metadata and filters, from few strings, so that things meet."""

from hypothesis import strategies as st

# Letters that LIKE, quoting and collations are known to stumble over.
texts = st.text(alphabet="aAb%_'\"\\é\U0010ffff\ud7ff ", max_size=3)
lists = st.lists(texts, max_size=3)
tags = st.sampled_from(["tag1", "tag2", "tag5"])

meta_data = st.fixed_dictionaries(
    {},
    optional={"tag1": texts, "tag2": texts, "tag5": texts, "facets": st.lists(texts, max_size=4)},
)

_strings = ["$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$begins_with", "$contains"]
tag_conditions = (
    texts
    | st.dictionaries(st.sampled_from(_strings), texts, min_size=1, max_size=2)
    | st.fixed_dictionaries({}, optional={"$in": lists, "$nin": lists, "$exists": st.booleans()}).filter(bool)
)
facet_conditions = texts | st.fixed_dictionaries(
    {},
    optional={
        "$contains": texts,
        "$subset": lists,
        "$all": lists,
        "$any": lists,
        "$none": lists,
        "$size": st.integers(0, 5),
        "$exists": st.booleans(),
    },
).filter(bool)

fields = st.dictionaries(tags, tag_conditions, max_size=2) | st.fixed_dictionaries({"facets": facet_conditions})
filters = st.recursive(
    fields,
    lambda inner: st.builds(
        lambda left, right: left | right,
        fields,
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
