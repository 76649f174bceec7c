"""A load generator that discards answers: `python load.py`, told what to do by one line of JSON on standard input.

Keeps `connections` connections busy with one request until it has had `requests` answers, or, with 0, until standard
input ends; prints one line of JSON with the seconds of each answer and the number of errors.
"""

import asyncio
import json
import sys
import time
from typing import Any
from urllib.parse import urlsplit

_END = b"0\r\n\r\n"


class _Client(asyncio.Protocol):
    """Sends the request again whenever its answer, in chunks, has ended."""

    def __init__(self, run: "_Run") -> None:
        self._run = run
        self._began = 0.0
        self._tail = b""
        self._good = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        if not self._tail:
            self._good = data.startswith(b"HTTP/1.1 200")
        self._tail = data[-len(_END) :] if len(data) >= len(_END) else (self._tail + data)[-len(_END) :]
        if self._tail == _END or not self._good:
            self._run.answered(time.perf_counter() - self._began, self._good)
            self._tail = b""
            if self._run.over:
                self._transport.close()
            else:
                self._send()

    def connection_lost(self, error: Exception | None) -> None:
        self._run.left(error)

    def _send(self) -> None:
        self._began = time.perf_counter()
        self._transport.write(self._run.request)


class _Run:
    def __init__(self, connections: int, requests: int, request: bytes) -> None:
        self.request = request
        self.over = False
        self.done = asyncio.Event()
        self.seconds: list[float] = []
        self.errors = 0
        self._wanted = requests
        self._open = connections

    def answered(self, seconds: float, good: bool) -> None:
        self.seconds.append(seconds)
        self.errors += not good
        self.over = self.over or (bool(self._wanted) and len(self.seconds) >= self._wanted)

    def left(self, error: Exception | None) -> None:
        self.errors += error is not None or not self.over
        self._open -= 1
        if not self._open:
            self.done.set()


async def main() -> None:
    told = json.loads(sys.stdin.readline())
    url = urlsplit(told["url"])
    body = json.dumps(told["body"]).encode()
    lines = [f"POST {url.path} HTTP/1.1", f"host: {url.netloc}", "content-type: application/json"]
    lines += [f"content-length: {len(body)}", *[f"{name}: {value}" for name, value in told["headers"].items()]]
    run = _Run(told["connections"], told["requests"], "\r\n".join([*lines, "", ""]).encode() + body)
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    for _ in range(told["connections"]):
        await loop.create_connection(lambda: _Client(run), url.hostname, url.port)
    if not told["requests"]:
        await loop.run_in_executor(None, sys.stdin.read)
        run.over = True
    await run.done.wait()
    sys.stdout.write(
        json.dumps({"elapsed": time.perf_counter() - began, "seconds": run.seconds, "errors": run.errors}) + "\n"
    )


if __name__ == "__main__":
    asyncio.run(main())
