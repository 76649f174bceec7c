"""A real proxy program, the package proxy.py, as a company runs it: with a password, and with inspection of TLS.

It finds the host `xtrace.example.com` at a server of this machine, as a company's name server would.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from support.authority import Certificates
from support.missing_tools import skip_without

HOST: Final = "xtrace.example.com"
_PORT: Final = "CORPORATE_PROXY_TARGET_PORT"
_START_S: Final = 30


@dataclass(frozen=True)
class CorporateProxy:
    """A proxy that runs."""

    port: int
    log: Path

    def url(self, user: str = "") -> str:
        """Its address, for this `user:password`."""
        return f"http://{user}{'@' if user else ''}127.0.0.1:{self.port}"


@contextmanager
def corporate_proxy(
    folder: Path,
    target_port: int,
    *,
    user: str = "",
    inspector: Certificates | None = None,
    trusted: Path | None = None,
) -> Iterator[CorporateProxy]:
    """Runs the proxy. It leads requests for `HOST` to the port of this machine.

    With an `inspector` it decrypts TLS and presents certificates of that authority; it trusts the server's by the
    `trusted` file. Skips the test if the package is not installed.
    """
    skip_without("proxy.py", find_spec("proxy"))
    port_file, log = folder / "port", folder / "proxy.log"
    options = ["--hostname", "127.0.0.1", "--port", "0", "--port-file", str(port_file), "--log-file", str(log)]
    options += ["--num-workers", "1", "--num-acceptors", "1", "--plugins", f"{__name__}.ToThisMachine"]
    options += ["--data-dir", str(folder / "data")]
    if user:
        options += ["--basic-auth", user]
    if inspector is not None and trusted is not None:
        options += ["--ca-key-file", str(inspector.authority_key), "--ca-cert-file", str(inspector.authority)]
        options += ["--ca-signing-key-file", str(inspector.server_key), "--ca-cert-dir", str(folder / "made")]
        options += ["--ca-file", str(trusted)]
    environment = {**os.environ, _PORT: str(target_port), "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-m", "proxy", *options]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        yield CorporateProxy(_written(port_file, process), log)
    finally:
        os.killpg(process.pid, signal.SIGTERM)  # the processes that it has started too
        process.wait()


def _written(file: Path, process: "subprocess.Popen[bytes]") -> int:
    deadline = time.monotonic() + _START_S
    while not (file.exists() and file.read_text().strip()):
        assert process.poll() is None, "the proxy ended"
        assert time.monotonic() < deadline, "the proxy did not start"
        time.sleep(0.02)
    return int(file.read_text().split()[0])


if find_spec("proxy"):
    from proxy.http.parser import HttpParser
    from proxy.http.proxy import HttpProxyBasePlugin

    class ToThisMachine(HttpProxyBasePlugin):  # type: ignore[misc]
        """The company's name server."""

        def resolve_dns(self, host: str, port: int) -> tuple[str | None, None]:
            return ("127.0.0.1" if host == HOST else None), None

        def before_upstream_connection(self, request: HttpParser) -> HttpParser:
            if request.host == HOST.encode():
                request.port = int(os.environ[_PORT])
            return request
