"""The process beside the server that is connected to the cluster: `python -m xtrace_server.search.ray.bridge`.

It listens on a Unix socket, and passes requests to the holders. It ends when its standard input is closed: when the
server ends, however that happens.
"""

import asyncio
import socket
import sys
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np
import ray

from xtrace_server.search.ray.messages import (
    AnyRequest,
    Ask,
    Compute,
    Ended,
    Hold,
    Reply,
    Rows,
    Status,
    head_of,
    receive_request,
)
from xtrace_server.search.ray.placement import NAMESPACE, Holders

_BACKLOG: Final = 1024
_SEND_BUFFER_BYTES: Final = 2 * 2**20
_GRACE_S: Final = 1.0
"""The additional time that a caller waits beyond the holder's deadline."""


class Bridge:
    """Answers the server's requests."""

    def __init__(self, holders: Holders) -> None:
        self._holders = holders
        self._connections: set[asyncio.Task[None]] = set()

    async def serve(self, path: Path) -> None:
        """Accepts connections forever."""
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen(_BACKLOG)
            listener.setblocking(False)
            print("ready", flush=True)  # noqa: T201 - the server waits for it
            while True:
                connection, _ = await loop.sock_accept(listener)
                task = loop.create_task(self._answer_all(connection))
                self._connections.add(task)
                task.add_done_callback(self._connections.discard)

    async def _answer_all(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        with connection, suppress(OSError):
            while True:
                request, payload = await receive_request(connection)
                reply, answers = await _unless_closed(connection, self._answer(request, payload))
                await loop.sock_sendall(connection, head_of(reply))
                if reply.payload:
                    await loop.sock_sendall(connection, memoryview(answers).cast("B"))

    async def _answer(self, request: AnyRequest, payload: Rows) -> tuple[Reply, Any]:
        if isinstance(request, Ask):
            known = self._holders
            return Reply(status=Status.DONE, nodes=len(known), threads=known.threads, held_bytes=known.held_bytes), None
        holder = self._holders.of(request.name)
        if holder is None:
            return Reply(status=Status.MISSING), None
        try:
            if isinstance(request, Hold):
                rows = payload.reshape(-1, request.row_bytes) if request.payload else None
                status = await _awaited(holder.hold.remote(request.name, rows, request.nonces), request.timeout_s)
                return Reply(status=status), None
            call = holder.compute.remote(request.name, _positions(request), request.computation, request.timeout_s)
            status, nonces, answers = await _awaited(call, request.timeout_s)
        except TimeoutError:
            return Reply(status=Status.LATE), None
        except ray.exceptions.RayTaskError as error:
            return Reply(status=Status.FAILED, message=type(error.cause).__name__), None
        except ray.exceptions.RayError:
            with suppress(ray.exceptions.RayError):
                await self._holders.look()
            return Reply(status=Status.MISSING), None
        size = 0 if answers is None else answers.nbytes
        return Reply(status=status, nonces=nonces, payload=size), answers


def _positions(request: Compute) -> Any:
    if request.positions is None:
        return request.start, request.end
    return np.frombuffer(request.positions, dtype="<i4")


async def _awaited(call: Any, timeout_s: float) -> Any:
    """Returns the result of a call, which is cancelled if it takes too long or its caller gives up."""
    try:
        async with asyncio.timeout(timeout_s + _GRACE_S):
            return await call
    except (TimeoutError, asyncio.CancelledError):
        ray.cancel(call)
        raise


async def _unless_closed(connection: socket.socket, answer: Awaitable[tuple[Reply, Any]]) -> tuple[Reply, Any]:
    """Returns the answer; cancels the request if the connection is closed meanwhile. Raises `Ended`."""
    loop = asyncio.get_running_loop()
    answering = asyncio.ensure_future(answer)
    closing = loop.create_task(loop.sock_recv(connection, 1))
    try:
        await asyncio.wait([answering, closing], return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            raise Ended("the server has given up")
        return answering.result()
    finally:
        for task in (answering, closing):
            task.cancel()
        await asyncio.gather(answering, closing, return_exceptions=True)


async def _until_the_server_ends() -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


async def _main(path: Path, node_bytes: int, idle_s: float) -> None:
    holders = Holders(node_bytes, idle_s)
    await holders.look()
    running = [holders.watch(), Bridge(holders).serve(path), _until_the_server_ends()]
    tasks = [asyncio.create_task(one) for one in running]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()


if __name__ == "__main__":
    socket_path, address, node_bytes, idle_s = sys.argv[1:]
    ray.init(address, namespace=NAMESPACE, log_to_driver=False, logging_level="error")
    asyncio.run(_main(Path(socket_path), int(node_bytes), float(idle_s)))
