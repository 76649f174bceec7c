"""The state of a server process, for the operator."""

import platform
from dataclasses import dataclass
from importlib.metadata import version

from xtrace_core.arithmetic import describe
from xtrace_server.state import ServerState
from xtrace_server.storage.migrating import newest_version
from xtrace_server.storage.slow_statements import SlowStatement


@dataclass(frozen=True, slots=True)
class Cache:
    """The memory of the search engine (bytes), and how often it saved reads."""

    kept: int
    budget: int
    read: int
    """Used by running searches."""
    coming: int
    """Being read from the database."""
    spooled: int
    """Used by searches whose rows are not cached."""
    from_memory: int
    loaded: int
    from_database: int
    evictions: int

    @property
    def searches(self) -> int:
        return self.from_memory + self.loaded + self.from_database


def cache(state: ServerState) -> Cache:
    """Returns the state of the cache of ciphertexts."""
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
    """Returns the versions that the process runs on, by name."""
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
