"""The command `xtrace serve` as a process beside this one: how it is started, and when it is ready."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx2

from xtrace_cli.errors import ServerDidNotStart
from xtrace_server.credentials import CREDENTIALS_FILE, Credentials, read_credentials

START_SECONDS: Final = 30
_LOG: Final = "server.log"
_LEAST_FREE: Final = 16 * 1024
"""Fewer bytes than a server needs to say anything."""


@contextmanager
def local_server(data: Path) -> Iterator[Credentials]:
    """Runs `xtrace serve` over a data folder on a free port of this machine; gives its credentials once it answers."""
    with server_process(data) as (credentials, _):
        yield credentials


@contextmanager
def server_process(data: Path) -> Iterator[tuple[Credentials, int]]:
    """The same; gives its process id too."""
    started = time.time()
    process = start_server(data)
    try:
        yield wait_until_ready(process, data, started), process.pid
    finally:
        process.terminate()
        try:
            process.wait()
        except BaseException:  # Ctrl-C again, from someone in a hurry
            process.kill()
            raise


def start_server(data: Path, keep_open: Sequence[int] = ()) -> subprocess.Popen[bytes]:
    """Starts a server over the data folder, on a free port, apart from this terminal; its log is `server.log` there.

    `keep_open` are file descriptors that it inherits. Raises `OSError`.
    """
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    command = [sys.executable, "-m", "xtrace_cli", "serve", "--data", str(data), "--port", "0"]
    with log_of(data).open("ab") as output:
        return subprocess.Popen(  # noqa: S603 - our own command
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=keep_open,
            env=_environment(),
        )


def wait_until_ready(process: subprocess.Popen[bytes], data: Path, started: float) -> Credentials:
    """The credentials of the server that the process runs, once it answers. Raises `ServerDidNotStart`."""
    while time.time() < started + START_SECONDS:
        if process.poll() is not None:
            raise ServerDidNotStart(f"the server stopped: {_last_line(log_of(data))} (its log is {log_of(data)})")
        if (credentials := written_credentials(data, started)) and is_ready(credentials.api_url):
            return credentials
        time.sleep(0.05)
    raise ServerDidNotStart(f"the server did not answer within {START_SECONDS} seconds; its log is {log_of(data)}")


def written_credentials(data: Path, since: float) -> Credentials | None:
    """The credentials that a server over the folder wrote since that time; None if it has not yet.

    The server writes its address at every start, so an older file is of a server that ran before.
    """
    file = data / CREDENTIALS_FILE
    return read_credentials(file) if file.exists() and file.stat().st_mtime >= since - 0.01 else None


def is_ready(url: str) -> bool:
    """Whether a server answers there that can serve."""
    try:
        return httpx2.get(f"{url}/readyz", timeout=2, trust_env=False).status_code == 200
    except httpx2.HTTPError:
        return False


def log_of(data: Path) -> Path:
    """The log of a server that this module started."""
    return data / _LOG


def _environment() -> dict[str, str]:
    """Ours without the settings of a server: this one shall use its own folder alone."""
    return {name: value for name, value in os.environ.items() if not name.upper().startswith("XTRACE_")}


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    if lines:
        return lines[-1].removeprefix("xtrace: ")
    # On a full disk it cannot say so in its log.
    full = shutil.disk_usage(log.parent).free < _LEAST_FREE
    return f"no space is left on the disk of {log.parent}" if full else "it said nothing"
