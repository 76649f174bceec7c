"""Limits the work of a metadata filter.

Conditions that an index answers cost little, however many chunks there are. A filter with another condition is
evaluated for each chunk: the number of evaluations is limited before it runs, and its time while it runs, because the
lengths of texts matter too.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from xtrace_core.metadata_filter import And, Filter, Not, Or, TagCompare
from xtrace_server.errors import FilterRefused
from xtrace_server.settings import Settings
from xtrace_server.storage.candidates import Candidates


@asynccontextmanager
async def filtering(settings: Settings, candidates: Candidates | None) -> AsyncIterator[None]:
    """Limits the work of the block, which applies the filter of the candidates. Raises `FilterRefused`."""
    if candidates is not None:
        _check_cost(settings, candidates)
    try:
        async with asyncio.timeout(settings.max_filter_s) as timeout:
            yield
    except TimeoutError:
        if not timeout.expired():
            raise
        raise FilterRefused(
            f"the filter took more than {settings.max_filter_s:g} seconds (max_filter_s): use fewer or shorter "
            "conditions with $contains"
        ) from None


def _check_cost(settings: Settings, candidates: Candidates) -> None:
    filter_ = candidates.scope.filter
    if not _walks(filter_):
        return
    cost = _conditions(filter_) * candidates.kb.number_of_vectors
    if cost > settings.max_filter_cost:
        raise FilterRefused(
            f"the filter has {_conditions(filter_)} conditions, and because of $contains each is evaluated for "
            f"{candidates.kb.number_of_vectors} chunks: at most {settings.max_filter_cost} evaluations are allowed "
            "(max_filter_cost), so use fewer conditions"
        )


def _walks(filter_: Filter) -> bool:
    """Whether a part of the filter searches inside texts."""
    match filter_:
        case And(parts) | Or(parts):
            return any(map(_walks, parts))
        case Not(part):
            return _walks(part)
        case TagCompare(_, comparison, _):
            return comparison == "contains"
        case _:
            return False


def _conditions(filter_: Filter) -> int:
    match filter_:
        case And(parts) | Or(parts):
            return sum(map(_conditions, parts))
        case Not(part):
            return _conditions(part)
        case _:
            return 1
