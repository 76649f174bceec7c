"""A TCP balancer as stands before servers: each new connection goes to the next server whose `/readyz` says 200."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final
from urllib.parse import urlsplit

CHECKED_EVERY_S: Final = 0.1
_PROBE: Final = b"GET /readyz HTTP/1.1\r\nhost: balancer\r\nconnection: close\r\n\r\n"


@contextmanager
def balancer(urls: Sequence[str]) -> Iterator[str]:
    """The address of a balancer before HTTP servers on this machine; it runs in a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="balancer", daemon=True)
    thread.start()
    made = _Balancer([(str(url.hostname), url.port or 80) for url in map(urlsplit, urls)])
    port = asyncio.run_coroutine_threadsafe(made.start(), loop).result(30)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        asyncio.run_coroutine_threadsafe(made.stop(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()


class _Balancer:
    def __init__(self, servers: Sequence[tuple[str, int]]) -> None:
        self._servers = list(servers)
        self._ready: set[tuple[str, int]] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        await self._look()
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._add(asyncio.create_task(self._keep_looking()))
        return int(self._listener.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        self._listener.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(CHECKED_EVERY_S)
            await self._look()

    async def _look(self) -> None:
        ready = await asyncio.gather(*[_is_ready(*server) for server in self._servers])
        self._ready = {server for server, is_ready in zip(self._servers, ready, strict=True) if is_ready}

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._add(task)
        with suppress(OSError, asyncio.CancelledError):
            await self._carry(reader, writer)
        writer.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for server in list(self._servers):
            self._servers.append(self._servers.pop(self._servers.index(server)))
            if server not in self._ready:
                continue
            with suppress(OSError):
                from_server, to_server = await asyncio.open_connection(*server)
                try:
                    await asyncio.gather(_pump(reader, to_server), _pump(from_server, writer))
                finally:
                    to_server.close()
                return

    def _add(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _is_ready(host: str, port: int) -> bool:
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(_PROBE)
            line = await reader.readline()
            writer.close()
            return line.startswith(b"HTTP/1.1 200")
    return False


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carries one direction to its end. A direction that breaks ends the other too."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.transport.abort()
