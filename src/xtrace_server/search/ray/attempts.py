"""How often a request to the cluster is repeated, and which replies end it."""

import logging
from collections.abc import Iterator
from typing import Final

from xtrace_server.errors import Unavailable
from xtrace_server.search.ray.messages import Reply, Status

_ATTEMPTS: Final = 7
_PAUSE_S: Final = 0.1
"""The pause before the second attempt; it doubles before each further one."""
_log = logging.getLogger("xtrace")


def pauses() -> Iterator[float]:
    """Yields the seconds to wait after each attempt."""
    return iter([_PAUSE_S * 2**attempt for attempt in range(_ATTEMPTS)])


def check_reply(reply: Reply) -> None:
    """Raises `Unavailable` for errors that a retry would not fix."""
    if reply.status is Status.LATE:
        raise Unavailable("the cluster took too long (ray_timeout_s)")
    if reply.status is Status.FAILED:
        _log.error("a node of the cluster failed: %s", reply.message[:64])
        raise Unavailable("the cluster failed to compute")
