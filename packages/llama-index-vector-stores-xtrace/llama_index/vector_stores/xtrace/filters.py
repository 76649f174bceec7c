"""Translates LlamaIndex's filters to those of a collection."""

from typing import Any, Final

from llama_index.core.vector_stores.types import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters

Where = dict[str, Any]


def where(filters: MetadataFilters | None) -> Where:
    """Returns the equivalent XTrace filter; `{}` if there are no filters."""
    return {} if filters is None or not filters.filters else _group(filters)


def _group(filters: MetadataFilters) -> Where:
    parts = [_group(one) if isinstance(one, MetadataFilters) else _condition(one) for one in filters.filters]
    if not parts:
        return {}
    return {_JOIN[filters.condition or FilterCondition.AND]: parts}


def _condition(one: MetadataFilter) -> Where:
    if one.operator is FilterOperator.IS_EMPTY:
        return {"$or": [{one.key: None}, {one.key: ""}, {one.key: {"$eq": []}}]}
    return {one.key: {_OPERATORS[one.operator]: one.value}}


_JOIN: Final = {FilterCondition.AND: "$and", FilterCondition.OR: "$or", FilterCondition.NOT: "$nor"}
_OPERATORS: Final = {
    FilterOperator.EQ: "$eq",
    FilterOperator.NE: "$ne",
    FilterOperator.GT: "$gt",
    FilterOperator.GTE: "$gte",
    FilterOperator.LT: "$lt",
    FilterOperator.LTE: "$lte",
    FilterOperator.IN: "$in",
    FilterOperator.NIN: "$nin",
    FilterOperator.ANY: "$any",
    FilterOperator.ALL: "$all",
    FilterOperator.CONTAINS: "$contains",
    FilterOperator.TEXT_MATCH: "$contains",
    FilterOperator.TEXT_MATCH_INSENSITIVE: "$icontains",
}
