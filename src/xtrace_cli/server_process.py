"""A server of one's own: started as a process beside this one, stopped when the block ends."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

from xtrace_cli.errors import ServerDidNotStart
from xtrace_server.credentials import CREDENTIALS_FILE, Credentials, read_credentials

_START_SECONDS = 30


@contextmanager
def local_server(data: Path) -> Iterator[Credentials]:
    """Runs `xtrace serve` over a data folder on a free port of this machine; gives its credentials once it answers."""
    with server_process(data) as (credentials, _):
        yield credentials


@contextmanager
def server_process(data: Path) -> Iterator[tuple[Credentials, int]]:
    """The same; gives its process id too."""
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    log = data / "server.log"
    command = [sys.executable, "-m", "xtrace_cli", "serve", "--data", str(data), "--port", "0"]
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - our own command
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env=_environment(),
        )
    started = time.time()
    try:
        yield _wait_until_ready(process, data, log, started), process.pid
    finally:
        process.terminate()
        try:
            process.wait()
        except BaseException:  # Ctrl-C again, from somebody in a hurry
            process.kill()
            raise


def _environment() -> dict[str, str]:
    """Ours without the settings of a server: this one shall use its own folder alone."""
    return {name: value for name, value in os.environ.items() if not name.upper().startswith("XTRACE_")}


def _wait_until_ready(process: subprocess.Popen[bytes], data: Path, log: Path, started: float) -> Credentials:
    file = data / CREDENTIALS_FILE
    while time.time() < started + _START_SECONDS:
        if process.poll() is not None:
            raise ServerDidNotStart(f"the server stopped: {_last_line(log)} (its log is {log})")
        # The server writes its address there at every start, so an older file is of a server that ran before.
        if file.exists() and file.stat().st_mtime >= started - 0.01:
            credentials = read_credentials(file)
            if _is_ready(credentials.api_url):
                return credentials
        time.sleep(0.05)
    raise ServerDidNotStart(f"the server did not answer within {_START_SECONDS} seconds; its log is {log}")


def _is_ready(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/readyz", timeout=2, trust_env=False).status_code == 200
    except httpx2.HTTPError:
        return False


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("xtrace: ") if lines else "it said nothing"
