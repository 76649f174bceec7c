"""The command `xtrace` without the time that its imports take: a process that has made them forks for each call.

What runs is a process as any other, with its own folder, environment, descriptors and status; only the imports are
shared. `python forked_command.py SOCKET` is the process that forks. It ends with its standard input.
"""

import array
import atexit
import contextlib
import importlib
import io
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

READ_AT_THE_START: Final = ("PYTHON", "LC_", "LANG", "MALLOC_", "LD_", "XTRACE_ARITHMETIC", "XTRACE_THREADS")
"""How variables begin that an interpreter, or a module that is imported, reads only once."""
MOST_TYPED: Final = 4096
"""What every pipe has room for."""
_IMPORTED: Final = ("xtrace_cli", "xtrace_sdk")
_LENGTH_BYTES: Final = 4


class CommandTimeout(Exception):
    """The command did not end in time, and was killed."""


class ForkedCommand:
    """Calls of the command, from this process and its threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._path = ""

    def run(
        self, words: Sequence[str], folder: Path, environment: Mapping[str, str], typed: str, timeout_s: float
    ) -> tuple[int, str, str]:
        """The status of the command, and what it wrote to standard output and error.

        `typed` is of at most `MOST_TYPED` bytes. Raises `CommandTimeout`.
        """
        reading, writing = os.pipe()
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(typed.encode())
        with (
            os.fdopen(reading, "rb") as given,
            tempfile.TemporaryFile() as out,
            tempfile.TemporaryFile() as err,
            socket.socket(socket.AF_UNIX) as connection,
        ):
            connection.settimeout(timeout_s)
            connection.connect(self._started())
            call = json.dumps({"words": list(words), "folder": str(folder), "environment": dict(environment)}).encode()
            descriptors = array.array("i", [given.fileno(), out.fileno(), err.fileno()])
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)]
            connection.sendmsg([len(call).to_bytes(_LENGTH_BYTES, "big")], ancillary)
            connection.sendall(call)
            with connection.makefile() as answers:
                pid = int(answers.readline())
                try:
                    status = int(answers.readline())
                except TimeoutError:
                    os.kill(pid, signal.SIGKILL)
                    raise CommandTimeout(f"xtrace {' '.join(words)} did not end within {timeout_s:g} s") from None
            return status, _text(out), _text(err)

    def _started(self) -> str:
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._path = str(Path(tempfile.mkdtemp(prefix="xtrace-command-")) / "socket")
                plain = {name: value for name, value in os.environ.items() if not name.startswith("XTRACE_")}
                self._process = subprocess.Popen(
                    [sys.executable, __file__, self._path],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env=plain | {"COLUMNS": "80", "NO_COLOR": "1"},
                )
                atexit.register(self.stop)
                assert self._process.stdout is not None
                assert self._process.stdout.readline() == b"ready\n"
            return self._path

    def stop(self) -> None:
        """Ends the process that forks."""
        process, self._process = self._process, None
        if process is not None:
            process.communicate()
            Path(self._path).unlink(missing_ok=True)
            Path(self._path).parent.rmdir()


def _text(file: Any) -> str:
    file.seek(0)
    text: str = file.read().decode()
    return text.replace("\r\n", "\n")  # as a text stream reads it


def _import_everything() -> None:
    for name in _IMPORTED:
        package = importlib.import_module(name)
        for module in pkgutil.walk_packages(package.__path__, f"{name}."):
            if not module.name.endswith("__main__"):
                with contextlib.suppress(ImportError):  # of an extra that is not installed
                    importlib.import_module(module.name)


def _import_what_commands_import() -> None:
    """Runs two, because their libraries import half of their own modules when they are first used."""
    from xtrace_cli.main import run

    with contextlib.redirect_stdout(io.StringIO()):
        run(["version"])
        run(["--help"])


def _derive_keys_quickly() -> None:
    """Passphrases get the lowest cost that an audit of keys accepts; tests/unit/crypto hold the real one."""
    from xtrace_sdk import PassphraseKeyProvider

    PassphraseKeyProvider._LOG2_N = PassphraseKeyProvider._LOWEST_LOG2_N


def _serve(path: str) -> None:
    _import_everything()
    _import_what_commands_import()
    _derive_keys_quickly()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # who waits for a command is waited for by the system
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        os.write(1, b"ready\n")
        while True:
            ready, _, _ = select.select([listener.fileno(), 0], [], [])
            if 0 in ready:
                return
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _wait_for_a_command(connection)
            connection.close()


def _wait_for_a_command(connection: socket.socket) -> NoReturn:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    head, descriptors, _, _ = socket.recv_fds(connection, _LENGTH_BYTES, 3)
    call = json.loads(connection.makefile("rb").read(int.from_bytes(head, "big")))
    pid = os.fork()
    if pid == 0:
        connection.close()
        _be_the_command(call, descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    connection.sendall(f"{pid}\n".encode())
    _, status = os.waitpid(pid, 0)
    connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _be_the_command(call: dict[str, Any], descriptors: Sequence[int]) -> NoReturn:
    from xtrace_cli.main import main

    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin, sys.stdout = open(0, encoding="utf-8"), open(1, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1)  # noqa: SIM115
    os.chdir(call["folder"])
    os.environ.clear()
    os.environ.update(call["environment"])
    sys.argv = [str(Path(sys.executable).with_name("xtrace")), *call["words"]]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    status = 1
    try:
        main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    _serve(sys.argv[1])
