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
    NAME_BYTES,
    AnyRequest,
    Ask,
    Compute,
    Ended,
    Evaluate,
    Have,
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
        if not len(self._holders):
            return Reply(status=Status.MISSING), None
        try:
            match request:
                case Hold():
                    return await self._hold(request, payload)
                case Compute():
                    return await self._compute(request)
                case Have():
                    return await self._have(request)
                case Evaluate():
                    return await self._evaluate(request)
        except TimeoutError:
            return Reply(status=Status.LATE), None
        except ray.exceptions.RayTaskError as error:
            return Reply(status=Status.FAILED, message=type(error.cause).__name__), None
        except ray.exceptions.RayError:
            with suppress(ray.exceptions.RayError):
                await self._holders.look()
            return Reply(status=Status.MISSING), None

    async def _hold(self, request: Hold, payload: Rows) -> tuple[Reply, Any]:
        holder = self._holders.of(request.name)
        if request.is_body:
            call = holder.hold_body.remote(request.name, payload)
        else:
            rows = payload.reshape(-1, request.row_bytes) if request.payload else None
            call = holder.hold.remote(request.name, rows, request.nonces)
        return Reply(status=await _awaited(call, request.timeout_s)), None

    async def _compute(self, request: Compute) -> tuple[Reply, Any]:
        holder = self._holders.of(request.name)
        call = holder.compute.remote(request.name, _positions(request), request.computation, request.timeout_s)
        status, nonces, answers = await _awaited(call, request.timeout_s)
        return Reply(status=status, nonces=nonces, payload=0 if answers is None else answers.nbytes), answers

    async def _have(self, request: Have) -> tuple[Reply, Any]:
        names = _names(request.names)
        held = np.zeros(len(names), dtype=np.uint8)

        async def ask(holder: Any, places: list[int]) -> None:
            held[places] = await _awaited(holder.have.remote([names[i] for i in places]), request.timeout_s)

        await asyncio.gather(*[ask(*one) for one in self._divided(names)])
        return Reply(status=Status.DONE, payload=held.nbytes), held

    async def _evaluate(self, request: Evaluate) -> tuple[Reply, Any]:
        """Joins what the holders compute: neighbouring bodies are on different nodes."""
        names = _names(request.names)
        computation = ray.put(request.computation)  # queries have a megabyte: stored once for all holders

        async def ask(holder: Any, places: list[int]) -> tuple[list[int], Status, Any]:
            own = [names[i] for i in places]
            call = holder.evaluate.remote(own, computation, request.timeout_s)
            return places, *await _awaited(call, request.timeout_s)

        found = await asyncio.gather(*[ask(*one) for one in self._divided(names)])
        for _, status, _ in found:
            if status is not Status.DONE:
                return Reply(status=status), None
        values = np.empty((len(names), *found[0][2].shape[1:]), dtype="<u2")
        for places, _, some in found:
            values[places] = some
        return Reply(status=Status.DONE, payload=values.nbytes), values

    def _divided(self, names: list[bytes]) -> list[tuple[Any, list[int]]]:
        """Returns each holder with the places of the names that it has."""
        divided: dict[int, tuple[Any, list[int]]] = {}
        for place, name in enumerate(names):
            holder = self._holders.of(name)
            divided.setdefault(id(holder), (holder, []))[1].append(place)
        return list(divided.values())


def _names(joined: bytes) -> list[bytes]:
    return [joined[start : start + NAME_BYTES] for start in range(0, len(joined), NAME_BYTES)]


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
