"""Fixtures of the tests of packages/: a real server, empty collections on it, and a server that is watched."""

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from functools import lru_cache
from pathlib import Path

import pytest

from support.collecting import toy_context
from support.recording_proxy import Recording, found, recording_proxy
from support.service import LiveService, running_service
from xtrace_sdk.sync import Collection, XTraceIntegration
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
from xtrace_server.credentials import CREDENTIALS_FILE, Credentials, write_credentials

# Keeps frameworks, which are imported later, from calling home.
os.environ |= {"HAYSTACK_TELEMETRY_ENABLED": "False", "MEM0_TELEMETRY": "False"}

NewCollection = Callable[..., Collection]
"""An empty collection for vectors of so many floats; further arguments are those of `Collection.open`."""


@pytest.fixture(scope="session")
def live_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    """One real server for the whole run."""
    with running_service(tmp_path_factory.mktemp("service") / "data") as service:
        yield service


@pytest.fixture(scope="session")
def credentials(live_service: LiveService) -> Credentials:
    """The organisation of all tests."""
    return live_service.new_organisation()


@pytest.fixture(scope="session")
def xtrace(credentials: Credentials) -> Iterator[XTraceIntegration]:
    """A connection with an admin key."""
    with connection(credentials, credentials.api_url) as connected:
        yield connected


@pytest.fixture
def new_collection(xtrace: XTraceIntegration) -> NewCollection:
    """Makes empty collections; their vectors come back as they were stored, in float32."""

    def make(dim: int, **more: object) -> Collection:
        return Collection.open(
            xtrace,
            _context(dim),
            f"test {time.time_ns()}",
            **{"vector_copy": "float32", **more},  # type: ignore[arg-type]
        )

    return make


@pytest.fixture
def reader_folder(tmp_path: Path, credentials: Credentials) -> Path:
    """A folder as a reader of the documentation has it after `xtrace serve`."""
    (tmp_path / "xtrace-data").mkdir()
    write_credentials(tmp_path / "xtrace-data" / CREDENTIALS_FILE, credentials)
    return tmp_path


def printed(code: str, folder: Path) -> str:
    """What an example prints as a program of its own in this folder."""
    script = folder / "example.py"
    script.write_text(code)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, script], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def connection(credentials: Credentials, url: str) -> XTraceIntegration:
    """A connection by this address."""
    return XTraceIntegration(credentials.org_id, credentials.api_key, credentials.admin_key, url)


@lru_cache
def _context(dim: int) -> ExecutionContext:
    return toy_context(dim=dim)


class Watched:
    """A collection of `dim` floats whose server is watched, and everything that the server received and stored."""

    def __init__(self, folder: Path, recording: Recording, collection: Collection) -> None:
        self.collection = collection
        self._folder = folder
        self._recording = recording

    def found(self, marks: Mapping[str, str]) -> list[str]:
        """Which marks are in it, in whatever disguise."""
        wire = bytes(self._recording.data)
        assert b"content-encoding" not in wire.lower()  # compressed, it would hide what is looked for
        disk = b"".join(path.read_bytes() for path in sorted(self._folder.rglob("*")) if path.is_file())
        # Both would show it: the name of the knowledge base is in clear.
        for seen in (wire, disk):
            assert found({"visible": VISIBLE.encode()}, seen)[:1] == ["visible (raw)"]
        return found({name: text.encode() for name, text in marks.items()}, wire + disk)


VISIBLE = "a name that everybody may see"


@contextmanager
def watched_collection(folder: Path, dim: int, **more: object) -> Iterator[Watched]:
    """A collection on a server of its own in `folder`, between which everything is recorded."""
    with running_service(folder / "data") as service, _in_a_thread(service.url) as recording:
        credentials = service.first_credentials
        with connection(credentials, recording.url) as xtrace:
            yield Watched(folder, recording, Collection.open(xtrace, toy_context(dim=dim), VISIBLE, **more))  # type: ignore[arg-type]


@contextmanager
def _in_a_thread(url: str) -> Iterator[Recording]:
    """A recording proxy that answers while the caller's thread waits for a synchronous call."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="recording proxy")
    thread.start()
    stack = AsyncExitStack()
    try:
        yield asyncio.run_coroutine_threadsafe(stack.enter_async_context(recording_proxy(url)), loop).result()
    finally:
        asyncio.run_coroutine_threadsafe(stack.aclose(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
