"""The server's side of its bridge to the cluster: starts, restarts and calls it."""

import asyncio
import logging
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final

from xtrace_server.errors import Unavailable
from xtrace_server.search.ray.inlining import LARGEST_REPLY, ray_reads
from xtrace_server.search.ray.messages import AnyRequest, Ask, Hold, Reply, Rows, Status, head_of, receive_reply
from xtrace_server.settings import Settings

_START_S: Final = 90.0
"""The maximum time for the bridge to connect to the cluster."""
_ASK_EVERY_S: Final = 2.0
_PAUSES_S: Final = (1.0, 2.0, 5.0, 10.0, 30.0)
"""The pauses before restarting a bridge: the first time, the second time, and so on."""
_HOLD_THREADS: Final = 2
_LARGE_BYTES: Final = 64 * 1024
_PASSED_ON: Final = ("PATH", "HOME", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV")

_log = logging.getLogger("xtrace")


class Call:
    """One request on a separate connection."""

    def __init__(self, client: "BridgeClient", connection: socket.socket, timeout_s: float) -> None:
        self._client = client
        self._connection: socket.socket | None = connection
        self._timeout_s = timeout_s

    async def ready(self) -> None:
        """Waits until the reply begins to arrive. Raises `Unavailable`."""
        if self._connection is None:
            return
        loop, file = asyncio.get_running_loop(), self._connection.fileno()
        arrived = asyncio.Event()
        loop.add_reader(file, arrived.set)
        try:
            async with asyncio.timeout(self._timeout_s):
                await arrived.wait()
        except TimeoutError:
            self.close()
            raise Unavailable("the cluster did not answer in time") from None
        finally:
            loop.remove_reader(file)

    def reply(self) -> tuple[Reply, Rows]:
        """Returns the reply, waiting for the rest of it. Raises `OSError`."""
        if self._connection is None:
            raise ConnectionError("the call was given up")
        connection, self._connection = self._connection, None
        try:
            found = receive_reply(connection)
        except BaseException:
            connection.close()
            raise
        self._client.give_back(connection)
        return found

    def close(self) -> None:
        """Cancels the call in the cluster."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class BridgeClient:
    """Keeps a bridge running, and makes calls through it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder = Path(tempfile.mkdtemp(prefix="xtrace-ray-"))
        self._idle: list[socket.socket] = []
        self._up = False
        self._path = self._folder / "0"
        self._pool = ThreadPoolExecutor(_HOLD_THREADS, thread_name_prefix="xtrace-hold")
        self._task: asyncio.Task[None] | None = None
        self.state = Reply(status=Status.MISSING)
        """The last known state of the cluster."""

    @property
    def available(self) -> bool:
        """Whether the cluster has a node for computing."""
        return self._up and self.state.nodes > 0

    async def start(self) -> None:
        """Connects, in the background."""
        if not await asyncio.to_thread(ray_reads, LARGEST_REPLY):
            _log.warning(
                "the installed version of Ray does not read %s: large answers of the cluster are slow", LARGEST_REPLY
            )
        self._task = asyncio.create_task(self._keep_running())

    async def close(self) -> None:
        """Ends the bridge. The cluster keeps its rows for other servers, or until they have been idle."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._pool.shutdown()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def begin(self, request: AnyRequest) -> Call:
        """Sends a request without payload. Raises `Unavailable`."""
        head = head_of(request)
        for connection in self._connections():
            try:
                if len(head) > _LARGE_BYTES:
                    await asyncio.get_running_loop().run_in_executor(self._pool, connection.sendall, head)
                else:
                    connection.sendall(head)  # fits into the socket's buffer, which is empty
            except OSError:
                connection.close()  # of a bridge that has ended
            else:
                return Call(self, connection, request.timeout_s + 2 * _ASK_EVERY_S)
        raise Unavailable("the cluster cannot be reached")

    async def hold(self, request: Hold, rows: Rows | None) -> Reply:
        """Sends a request with the rows in a thread, and returns the reply. Raises `Unavailable`."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._exchange, request, rows)
        except OSError:
            raise Unavailable("the cluster cannot be reached") from None

    def give_back(self, connection: socket.socket) -> None:
        """Keeps a connection for the next call. Safe to call from any thread."""
        self._idle.append(connection)

    def _exchange(self, request: Hold, rows: Rows | None) -> Reply:
        with self._connected() as connection:
            connection.settimeout(request.timeout_s + 2 * _ASK_EVERY_S)
            connection.sendall(head_of(request))
            if rows is not None:
                connection.sendall(rows.reshape(-1).data)
            return receive_reply(connection)[0]

    def _connections(self) -> Iterator[socket.socket]:
        """Yields idle connections, then a new one. Raises `Unavailable`."""
        while self._idle:
            with suppress(IndexError):  # another thread has taken it
                yield self._idle.pop()
        try:
            yield self._connected()
        except OSError:
            raise Unavailable("the cluster cannot be reached") from None

    def _connected(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(self._settings.ray_timeout_s)
            connection.connect(str(self._path))
        except BaseException:
            connection.close()
            raise
        return connection

    async def _keep_running(self) -> None:
        attempt = 0
        while True:
            was_up = await self._run_once(self._folder / str(attempt))
            _log.warning("the cluster %s", "is gone" if was_up else "cannot be reached")
            pause = _PAUSES_S[0] if was_up else _PAUSES_S[min(attempt, len(_PAUSES_S) - 1)]
            await asyncio.sleep(pause)
            attempt += 1

    async def _run_once(self, path: Path) -> bool:
        """Runs a bridge until it ends; returns whether it was connected."""
        settings = self._settings
        arguments = [path, settings.ray_address, settings.ray_node_bytes, settings.ray_idle_s]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "xtrace_server.search.ray.bridge"),
            *map(str, arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=bridge_environment(os.environ),
            start_new_session=True,  # Ctrl-C is for the server, which then ends the bridge
        )
        try:
            async with asyncio.timeout(_START_S):
                ready = await process.stdout.readline() if process.stdout else b""
            if ready.strip() != b"ready":
                return False
            self._path, self._up = path, True
            _log.warning("connected to the cluster")
            asking = asyncio.create_task(self._ask_again_and_again())
            try:
                await process.wait()
            finally:
                asking.cancel()
        except TimeoutError:
            return False
        finally:
            self._gone()
            if process.returncode is None:
                process.kill()
                await process.wait()
        return True

    def _gone(self) -> None:
        self._up, self.state = False, Reply(status=Status.MISSING)
        while self._idle:
            self._idle.pop().close()

    async def _ask_again_and_again(self) -> None:
        while True:
            with suppress(OSError, Unavailable):
                call = await self.begin(Ask(timeout_s=_ASK_EVERY_S))
                await call.ready()
                self.state = call.reply()[0]
            await asyncio.sleep(_ASK_EVERY_S)


def bridge_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns the environment of the bridge: the server's, without anything that names or opens a database."""
    passed = {name: value for name, value in environment.items() if name in _PASSED_ON or name.startswith("RAY_")}
    return {**passed, "RAY_USAGE_STATS_ENABLED": "0"}
