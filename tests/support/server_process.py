"""A server in a process of its own that can be killed, and started again in a tenth of a second."""

import time
from pathlib import Path
from typing import Any

import httpx2

from support.databases import database_settings
from support.forked import forking
from support.schema import put_schema
from support.serving import serve
from xtrace_server.credentials import CREDENTIALS_FILE, Credentials, read_credentials

_START_S = 120.0


class ServerProcess:
    """A server over a folder, on a fixed port, so that clients find it again after a crash."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        defaults = {"log_level": "error", "ballast_bytes": 0, **database_settings(folder)}
        self._settings = {"data": folder, **defaults, **settings}
        self._process: Any = None

    @property
    def credentials(self) -> Credentials:
        return read_credentials(self.folder / CREDENTIALS_FILE)

    @property
    def url(self) -> str:
        """Its address; `credentials` has that of the first server on the folder."""
        return f"http://127.0.0.1:{self._settings['port']}"

    @property
    def pid(self) -> int:
        return int(self._process.pid)

    def start(self) -> None:
        """Returns when requests are answered."""
        self.begin()
        self.wait_until_ready()

    def begin(self) -> None:
        if "database_url" not in self._settings:
            put_schema(self.folder)
        self._process = forking().Process(target=serve, args=(self._settings,), daemon=True)
        self._process.start()

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            assert self._process.is_alive(), "the server ended"
            try:
                if httpx2.get(f"{self.url}/readyz", timeout=5).status_code == 200:
                    return
            except httpx2.TransportError:
                time.sleep(0.01)
        raise AssertionError("the server did not start")

    def kill(self) -> None:
        """SIGKILL, at whatever it is doing."""
        self._process.kill()
        self._process.join()

    def terminate(self) -> int:
        """SIGTERM; the exit status."""
        self._process.terminate()
        return self.join()

    def join(self) -> int:
        """Waits for its end; the exit status."""
        self._process.join(60)
        return int(self._process.exitcode)
