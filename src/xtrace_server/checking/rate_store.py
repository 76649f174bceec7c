"""Checks whether the rate store answers."""

import asyncio
from collections.abc import Iterator

from xtrace_server.checking.findings import Finding, ok, warning
from xtrace_server.limits.rate_store import RateStore, StoreUnreachable
from xtrace_server.metrics import Metrics
from xtrace_server.settings import Settings


def check_rate_store(settings: Settings) -> Iterator[Finding]:
    """Counts in the store, under a name that expires after a second."""
    if settings.rate_store is None:
        return
    try:
        asyncio.run(_ask(settings.rate_store))
    except StoreUnreachable as unreachable:
        yield warning(
            f"The rate store does not answer ({unreachable}): until it does, each server counts requests for itself, "
            "and refuses sign-ins to the dashboard"
        )
    else:
        yield ok("The rate store answers.")


async def _ask(url: str) -> None:
    store = RateStore(url, Metrics())
    try:
        await store.check()
    finally:
        await store.close()
