"""Raises the limit of open files for connections, each of which needs a file descriptor."""

import logging
from typing import Final

from xtrace_server.settings import Settings

OWN: Final = 128
"""Descriptors for other purposes: the database, temporary files, listeners."""

_log = logging.getLogger("xtrace")


def raise_descriptor_limit(settings: Settings) -> None:
    """Lets this process open `max_connections` connections; logs a warning if the system allows fewer."""
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
