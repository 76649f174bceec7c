"""Every check, in the order of the report."""

from collections.abc import Iterator
from typing import Final

from xtrace_server.checking import database, files, host, limits, rate_store
from xtrace_server.checking.findings import Check, Finding
from xtrace_server.settings import Settings

CHECKS: Final[tuple[Check, ...]] = (
    limits.check_bodies,
    limits.check_requests,
    limits.check_times,
    limits.check_schemes,
    limits.check_engine,
    files.check_folder,
    files.check_keys,
    files.check_secrets,
    files.check_certificate,
    database.check_database,
    rate_store.check_rate_store,
    host.check_ports,
    host.check_descriptors,
    host.check_memory,
    host.check_processors,
)


def findings(settings: Settings) -> Iterator[Finding]:
    """Yields the findings for a server with these settings, on this host, at this moment."""
    for check in CHECKS:
        yield from check(settings)
