"""What a server in a process of its own does; `server_process` starts it."""

import signal
from typing import Any

from xtrace_server import serving, workers
from xtrace_server.settings import Settings


def serve(settings: dict[str, Any]) -> None:
    """Serves until it is told to end; `settings` are fields of `Settings`."""
    # As `xtrace serve` does: the server ends cleanly, and is told again.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    (workers if settings.get("workers", 1) > 1 else serving).run(Settings(**settings))
