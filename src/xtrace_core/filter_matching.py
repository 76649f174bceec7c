"""Matches metadata against a filter in Python, as the service's database does in SQL."""

import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

from xtrace_core import metadata_filter as language
from xtrace_core.metadata_filter import Comparison, Filter

_COMPARE: Final[dict[Comparison, Callable[[str, str], bool]]] = {
    "eq": operator.eq,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
    "begins_with": str.startswith,
    "contains": operator.contains,
}


def matches(filter_: Filter, meta_data: Mapping[str, Any]) -> bool:
    """Returns whether a chunk with this metadata matches the filter; `UNSET` fields are absent."""
    facets = set(meta_data.get("facets") or ())
    match filter_:
        case language.And(parts):
            return all(matches(part, meta_data) for part in parts)
        case language.Or(parts):
            return any(matches(part, meta_data) for part in parts)
        case language.Not(part):
            return not matches(part, meta_data)
        case language.TagCompare(tag, comparison, value):
            stored = meta_data.get(tag)
            return stored is not None and _COMPARE[comparison](stored, value)
        case language.TagIn(tag, values):
            return meta_data.get(tag) in values
        case language.TagExists(tag):
            return bool(meta_data.get(tag))
        case language.AnyFacet(tokens):
            return not facets.isdisjoint(tokens)
        case language.AllFacets(tokens):
            return facets.issuperset(tokens)
        case language.FacetCount(count):
            return len(facets) == count
