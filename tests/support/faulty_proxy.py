"""A TCP proxy that does to connections what networks do: slow, late, cut, reset, half-closed, byte by byte."""

import asyncio
import socket
import struct
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Literal, TypeAlias
from urllib.parse import urlsplit

Direction: TypeAlias = Literal["request", "answer"]

_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER of zero seconds: closing sends RST


class Kind(Enum):
    """What happens to a connection once `after_bytes` have passed in one direction."""

    SLOW = "slow"
    """The rest comes in small pieces, with a pause after each."""
    DELAYED = "delayed"
    """A pause, then the rest as if nothing had been."""
    BYTE_BY_BYTE = "one byte at a time"
    """The next thousand bytes come in packets of one."""
    CUT = "cut"
    """Both ends see an orderly end."""
    RESET = "reset"
    """Both ends see a reset."""
    HALF_CLOSED = "half-closed"
    """The receiving end sees an end of this direction; the other one goes on."""


@dataclass(frozen=True)
class Fault:
    """What happens after `after_bytes` in a direction. Only a direction that comes so far meets it."""

    kind: Kind
    direction: Direction
    after_bytes: int
    pause_s: float = 0.05
    piece_bytes: int = 1024


@dataclass
class FaultyProxy:
    """Give clients its `url`. Each new connection meets the next of `faults`; without one it is a good connection.

    `choose` decides instead where it is set.
    """

    url: str = ""
    faults: deque[Fault] = field(default_factory=deque)
    choose: Callable[[], Fault | None] | None = None
    met: Counter[Kind] = field(default_factory=Counter)
    """How many connections have come to their fault."""
    connections: int = 0

    def next_fault(self) -> Fault | None:
        """What the connection that begins will meet."""
        self.connections += 1
        if self.choose is not None:
            return self.choose()
        return self.faults.popleft() if self.faults else None


@asynccontextmanager
async def faulty_proxy(server_url: str) -> AsyncIterator[FaultyProxy]:
    """Stands in front of an HTTP server on this machine."""
    target = urlsplit(server_url)
    proxy = FaultyProxy()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with suppress(asyncio.CancelledError):  # the proxy ends
            await _Connection(proxy, proxy.next_fault(), reader, writer).carry(str(target.hostname), target.port or 80)
        tasks.discard(task)

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    async with listener:
        yield proxy
    for task in list(tasks):
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class _Connection:
    def __init__(
        self, proxy: FaultyProxy, fault: Fault | None, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._proxy = proxy
        self._fault = fault
        self._client = reader, writer
        self._writers = [writer]

    async def carry(self, host: str, port: int) -> None:
        """Returns when the connection is over, in whatever way."""
        try:
            server = await asyncio.open_connection(host, port)
            self._writers.append(server[1])
            for writer in self._writers:
                writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump("request", self._client[0], server[1]))
                group.create_task(self._pump("answer", server[0], self._client[1]))
        except* (OSError, _Over):
            pass
        finally:
            for writer in self._writers:
                writer.close()
            for writer in self._writers:
                with suppress(OSError):
                    await writer.wait_closed()

    async def _pump(self, direction: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        fault = self._fault if self._fault is not None and self._fault.direction == direction else None
        left = fault.after_bytes if fault is not None else 0
        while data := await reader.read(65536):
            if fault is None:
                await _send(writer, data)
                continue
            before, data = data[:left], data[left:]
            await _send(writer, before)
            left -= len(before)
            if not left and data:
                self._proxy.met[fault.kind] += 1
                await self._meet(fault, data, reader, writer)
                fault = None
        with suppress(OSError):
            writer.write_eof()

    async def _meet(
        self, fault: Fault, data: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Does what the fault says; returns if the connection goes on as a good one."""
        match fault.kind:
            case Kind.DELAYED:
                await asyncio.sleep(fault.pause_s)
                await _send(writer, data)
            case Kind.SLOW:
                await self._in_pieces(data, reader, writer, fault.piece_bytes, fault.pause_s)
            case Kind.BYTE_BY_BYTE:
                for position in range(min(len(data), 1000)):
                    await _send(writer, data[position : position + 1])
                    await asyncio.sleep(0)
                await _send(writer, data[1000:])
            case Kind.CUT:
                raise _Over
            case Kind.RESET:
                for each in self._writers:
                    each.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    each.transport.abort()
                raise _Over
            case Kind.HALF_CLOSED:
                writer.write_eof()
                while await reader.read(65536):
                    pass

    async def _in_pieces(
        self, data: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, size: int, pause_s: float
    ) -> None:
        while data:
            for start in range(0, len(data), size):
                await _send(writer, data[start : start + size])
                await asyncio.sleep(pause_s)
            data = await reader.read(65536)


class _Over(Exception):
    """Ends both directions."""


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    if data:
        writer.write(data)
        await writer.drain()
