"""What the operator wants to know of a server process."""

import platform
from dataclasses import dataclass
from importlib.metadata import version

from xtrace_core.arithmetic import describe
from xtrace_server.state import ServerState
from xtrace_server.storage.migrating import newest_version
from xtrace_server.storage.slow_statements import SlowStatement


@dataclass(frozen=True, slots=True)
class Cache:
    """What the search engine keeps in memory (bytes), and how often that served."""

    kept: int
    budget: int
    read: int
    """By searches that are under way."""
    coming: int
    """On its way from the database."""
    spooled: int
    """Held for searches whose rows are not kept."""
    from_memory: int
    loaded: int
    from_database: int
    evictions: int

    @property
    def searches(self) -> int:
        return self.from_memory + self.loaded + self.from_database


def cache(state: ServerState) -> Cache:
    """Returns how the cache of ciphertexts does."""
    held = {part: int(read()) for part, read in state.engine.memory().items()}
    return Cache(
        kept=held["cached"],
        budget=state.settings.cache_bytes,
        read=held["read"],
        coming=held["coming"],
        spooled=held["spooled"],
        from_memory=_sample(state, "xtrace_searches_total", rows="memory")
        + _sample(state, "xtrace_searches_total", rows="cluster"),
        loaded=_sample(state, "xtrace_searches_total", rows="loaded"),
        from_database=_sample(state, "xtrace_searches_total", rows="database"),
        evictions=_sample(state, "xtrace_cache_evictions_total"),
    )


def slow_statements(state: ServerState) -> list[SlowStatement]:
    """Returns the statements that took `slow_statement_s` or longer, without their values."""
    return state.database.slow_statements.list_all()


def versions(state: ServerState) -> list[tuple[str, str]]:
    """Returns what the process runs on, by name."""
    return [
        ("XTrace", version("xtracedb")),
        ("Database", state.database.kind),
        ("Database schema", newest_version()),
        ("Python", platform.python_version()),
        ("System", f"{platform.system()} {platform.release()}"),
        ("Arithmetic", describe()),
    ]


def _sample(state: ServerState, name: str, **labels: str) -> int:
    return int(state.metrics.registry.get_sample_value(name, labels) or 0)
