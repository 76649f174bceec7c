"""The private server of `xtrace init --local`: it outlives the command that started it, and serves the next ones.

A command that needs it finds it running, or starts it. It runs until `xtrace local-server stop`, or until the machine
stops.

In its data folder is `private-server.lock`. The process that starts the server locks it and hands it on, so it is
locked exactly as long as the server runs, however it ends. What is written in it, the process id among it, is true as
long as it is locked: it cannot be the id of another process.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from xtrace_cli.errors import ServerDidNotStart, UnusableData
from xtrace_cli.server_process import (
    START_SECONDS,
    is_ready,
    log_of,
    start_server,
    wait_until_ready,
    written_credentials,
)
from xtrace_core.file_locks import has_shared_locks, lock, open_folder
from xtrace_server.credentials import Credentials

_LOCK: Final = "private-server.lock"
_STOP_SECONDS: Final = 60


class _State(msgspec.Struct):
    """What the lock file says of the server that runs."""

    pid: int
    started: float


def ensure_running(data: Path) -> Credentials:
    """The credentials of the server over the data folder, which is started unless it runs already.

    Of commands that start it at once, one does, and the others wait for it. A server that someone started with `xtrace
    serve` on the folder is used too. Raises `ServerDidNotStart` and `UnusableData`.
    """
    if not has_shared_locks():
        raise UnusableData("a private server needs locks that Windows does not have: run `xtrace serve` beside it")
    deadline = time.monotonic() + START_SECONDS
    with _lock_file(data) as file:
        while not lock(file):
            state = _state(file)
            if state is not None and (credentials := written_credentials(data, state.started)):
                # It listens before it writes them: a request waits until it can be served.
                return credentials
            if time.monotonic() > deadline:
                raise ServerDidNotStart(
                    f"the server did not answer within {START_SECONDS} seconds; its log is {log_of(data)}"
                )
            time.sleep(0.05)
        os.ftruncate(file, 0)
        if _is_in_use(data):
            return _of_other_server(data)
        started = time.time()
        process = start_server(data, keep_open=[file])
        os.pwrite(file, msgspec.json.encode(_State(process.pid, started)), 0)
        return wait_until_ready(process, data, started)


def process_id(data: Path) -> int | None:
    """The process id of the private server over the folder; None if it does not run."""
    if not (data / _LOCK).exists():
        return None
    with _lock_file(data) as file:
        state = None if lock(file) else _state(file)
    return None if state is None else state.pid


def stop(data: Path) -> bool:
    """Stops the private server over the folder once it has finished what is in flight; says whether it ran.

    Raises `UnusableData` if it does not end within a minute.
    """
    if not (data / _LOCK).exists():
        return False
    with _lock_file(data) as file:
        if lock(file):
            return False
        state = _state(file)
        if state is None:
            raise UnusableData(f"the server over {data} is starting: try again")
        os.kill(state.pid, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS
        while not lock(file):
            if time.monotonic() > deadline:
                raise UnusableData(f"the server (process {state.pid}) has not stopped within {_STOP_SECONDS} seconds")
            time.sleep(0.05)
    return True


def _of_other_server(data: Path) -> Credentials:
    credentials = written_credentials(data, 0)
    if credentials is None or not is_ready(credentials.api_url):
        raise ServerDidNotStart(
            f"another server runs on {data}, but does not respond at the address in its credentials.json"
        )
    return credentials


def _is_in_use(data: Path) -> bool:
    """Whether a server runs on the folder that was not started here: it holds a lock on the folder."""
    descriptor = open_folder(data)
    try:
        return not lock(descriptor, shared=True)
    finally:
        os.close(descriptor)


@contextmanager
def _lock_file(data: Path) -> Iterator[int]:
    """The open lock file. Closing it does not unlock it while the server has it open too."""
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(data / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as error:
        raise UnusableData(f"the server's data cannot be used: {error.strerror}: {error.filename}") from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _state(descriptor: int) -> _State | None:
    """What the server's starter wrote; None if it has not yet."""
    try:
        return msgspec.json.decode(os.pread(descriptor, 1000, 0), type=_State)
    except msgspec.DecodeError:
        return None
