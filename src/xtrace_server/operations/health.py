"""The health of a running server, for the dashboard."""

import time
from dataclasses import dataclass

from xtrace_server.errors import Unavailable
from xtrace_server.limits.in_flight import PARTS
from xtrace_server.state import ServerState
from xtrace_server.storage.database import StorageError

_ROWS = ("memory", "cluster", "loaded", "database")
SLOW_DATABASE_S = 0.25
"""A database that takes longer for a trivial query is busy, or far away."""


@dataclass(frozen=True, slots=True)
class Health:
    """The state of one server process. Sizes are in bytes, times in seconds."""

    database: str
    database_s: float | None
    """The time of a trivial query; None if it was not answered."""
    cache_bytes: int
    cache_budget_bytes: int
    searches: int
    """The number since this process started."""
    from_memory: int
    """The searches that read nothing from the database."""
    search_threads: int
    requests: int
    """The requests in flight."""
    memory_bytes: int
    memory_budget_bytes: int
    """The budget for everything that clients store, send and request."""
    workers: int
    """The processes of this server that serve."""
    workers_wanted: int

    @property
    def is_slow(self) -> bool:
        """Whether the database took long."""
        return self.database_s is not None and self.database_s > SLOW_DATABASE_S


async def measure(state: ServerState) -> Health:
    """Runs a trivial query, and reads the process's counters."""
    settings, memory = state.settings, state.engine.memory()
    searches = {rows: _sample(state, "xtrace_searches_total", rows=rows) for rows in _ROWS}
    held = {part: int(read()) for part, read in memory.items()}
    workers, workers_wanted = state.metrics.workers()
    return Health(
        database=state.database.kind,
        database_s=await _probe(state),
        cache_bytes=held["cached"],
        cache_budget_bytes=settings.cache_bytes,
        searches=sum(searches.values()),
        from_memory=searches["memory"] + searches["cluster"],
        search_threads=settings.search_threads,
        requests=_sample(state, "xtrace_requests_in_flight"),
        memory_bytes=sum(held.values()) + sum(map(state.in_flight.taken_bytes, PARTS)),
        memory_budget_bytes=settings.memory_bytes,
        workers=workers,
        workers_wanted=workers_wanted,
    )


async def _probe(state: ServerState) -> float | None:
    began = time.perf_counter()
    try:
        await state.database.check_ready()
    except (StorageError, Unavailable):
        return None
    return time.perf_counter() - began


def _sample(state: ServerState, name: str, **labels: str) -> int:
    return int(state.metrics.registry.get_sample_value(name, labels) or 0)
