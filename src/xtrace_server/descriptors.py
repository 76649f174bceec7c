"""Room for connections: each is a file descriptor, and a process may have only so many."""

import logging
from typing import Final

from xtrace_server.settings import Settings

OWN: Final = 128
"""Descriptors beside those of connections: the database's, temporary files, listeners."""

_log = logging.getLogger("xtrace")


def raise_descriptor_limit(settings: Settings) -> None:
    """Lets this process open as many connections as `max_connections` says; logs what is allowed if it is fewer."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows has no such limit
        return

    wanted = settings.max_connections + OWN
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        soft = allowed
    if soft != resource.RLIM_INFINITY and soft < wanted:
        _log.warning(
            "the system allows this process %d open files, which is enough for %d connections: max_connections is %d, "
            "so raise the limit (ulimit -n, LimitNOFILE=) to %d or lower max_connections",
            soft,
            max(soft - OWN, 0),
            settings.max_connections,
            wanted,
        )
