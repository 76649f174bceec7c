"""Fresh environments: each way of installing, with the quickstart in it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.releasing.building import Built

_START_SECONDS: Final = 60
_DESCRIBE: Final = "from xtrace_core.arithmetic import describe; print(describe())"


@dataclass(frozen=True)
class Way:
    """One way to install."""

    name: str
    extras: str = ""
    tool: str = ""
    """`uv tool` or `pipx`, which make the environment; without, an environment of this Python and pip's rules."""
    compiled: bool = True
    python: str = ""
    """The version of Python; without, the one that runs this."""


WAYS: Final = (
    Way("server,cli", "server,cli"),
    Way("client"),
    Way("client, no compiler", compiled=False),
    Way("all", "all"),
    Way("uv tool", "server,cli", tool="uv"),
    Way("pipx", "server,cli", tool="pipx"),
    *(Way(f"Python {version}", "server,cli", python=version) for version in ("3.11", "3.12", "3.13", "3.14")),
)


class DoesNotWork(Exception):
    """Something that was installed does not do what it should."""


class Fresh:
    """Environments in a folder. The first with the server serves the others."""

    def __init__(self, root: Path, folder: Path, built: Built) -> None:
        self._root, self._folder, self._built = root, folder, built
        self._made: dict[str, Path] = {}

    def run(self, way: Way) -> str:
        """Installs, starts a server and runs the quickstart; returns a sentence. Raises `DoesNotWork`."""
        if way.python and not _interpreter(way.python):
            return "this machine has none"
        python = self._environment(way)
        served = python if "server" in way.extras or way.extras == "all" else self._environment(WAYS[0])
        work = self._folder / f"work-{way.name}".replace(" ", "-")
        said = quickstart(self._root, python, work, served)
        kernels = _execute(python, "-c", _DESCRIBE, cwd=work).strip()
        if ("not installed" in kernels) is way.compiled:
            raise DoesNotWork(f"{way.name} computes with {kernels}")
        command = python.parent / "xtrace"
        if way.extras:
            _execute(command, "version", cwd=work)
        else:
            done = _executed([command, "version"], work, {})
            if done.returncode != 1 or "pip install 'xtracedb[cli]'" not in done.stderr:
                raise DoesNotWork(f"without the extra cli, the command says {done.stdout}{done.stderr}")
        return f"{said}, with {kernels.partition(',')[0]}"

    def bill_of_materials(self, file: Path) -> Path:
        """Writes what an installation with the extra `all` consists of (CycloneDX, JSON)."""
        python = self._environment(next(way for way in WAYS if way.name == "all"))
        maker: list[str | Path] = [
            sys.executable,
            "-m",
            "uv",
            "tool",
            "run",
            "--quiet",
            "--from",
            "cyclonedx-bom>=7",
            "cyclonedx-py",
        ]
        options: list[str | Path] = ["environment", "--output-reproducible", "--of", "JSON", "-o", file, python]
        _execute(*maker, *options, cwd=self._folder)
        parts = json.loads(file.read_text(encoding="utf-8"))["components"]
        if not any(part["name"] == "cryptography" for part in parts):
            raise DoesNotWork(f"the bill of materials lists {len(parts)} parts, and cryptography is not among them")
        return file

    def _environment(self, way: Way) -> Path:
        if way.name not in self._made:
            self._made[way.name] = self._install(way)
        return self._made[way.name]

    def _install(self, way: Way) -> Path:
        home = self._folder / way.name.replace(" ", "-")
        wheel = self._built.wheel if way.compiled else self._built.plain_wheel
        wanted = f"xtracedb[{way.extras}] @ {wheel.as_uri()}" if way.extras else f"xtracedb @ {wheel.as_uri()}"
        uv = [sys.executable, "-m", "uv"]
        if way.tool == "uv":
            places = {"UV_TOOL_DIR": str(home), "UV_TOOL_BIN_DIR": str(home / "bin")}
            options = ["--quiet", "--python", sys.executable]
            _execute(*uv, "tool", "install", *options, wanted, cwd=self._folder, **places)
            return home / "xtracedb" / "bin" / "python"
        if way.tool == "pipx":
            places = {"PIPX_HOME": str(home), "PIPX_BIN_DIR": str(home / "bin"), "PIPX_MAN_DIR": str(home / "man")}
            pipx = [*uv, "tool", "run", "--quiet", "pipx"]
            _execute(*pipx, "install", "--python", sys.executable, wanted, cwd=self._folder, **places)
            return home / "venvs" / "xtracedb" / "bin" / "python"
        interpreter = _interpreter(way.python) if way.python else sys.executable
        _execute(*uv, "venv", "--quiet", "--python", interpreter, home, cwd=self._folder)
        python = home / "bin" / "python"
        _execute(*uv, "pip", "install", "--quiet", "--python", python, wanted, cwd=self._folder)
        return python


def quickstart(root: Path, python: Path, folder: Path, server: Path | None = None) -> str:
    """Runs the quickstart with one Python against the server of another, by default its own; returns a sentence.

    Raises `DoesNotWork`.
    """
    with running_server(server or python, folder):
        script, page = root / "tools" / "page_examples.py", root / "docs" / "quickstart.md"
        return _execute(python, "-W", "error", script, page, cwd=folder).splitlines()[-1]


def _execute(*command: str | Path, cwd: Path, **variables: str) -> str:
    done = _executed(command, cwd, variables)
    if done.returncode:
        raise DoesNotWork(f"{' '.join(map(str, command))}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done.stdout


def _executed(
    command: Sequence[str | Path], cwd: Path, variables: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    cwd.mkdir(parents=True, exist_ok=True)
    parts = [str(part) for part in command]
    return subprocess.run(parts, capture_output=True, text=True, check=False, cwd=cwd, env=_bare(variables))


def _interpreter(version: str) -> str:
    """The path of an interpreter of this version that the machine has; empty if it has none."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    if found := sorted(pyenv.glob(f"versions/{version}.*/bin/python{version}")):
        return str(found[-1])
    command = [sys.executable, "-m", "uv", "python", "find", "--no-python-downloads", "--system", version]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def client_downloads(wheel: Path, folder: Path) -> dict[str, int]:
    """What `pip install xtracedb` downloads for this Python and machine: the files with their bytes."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "-q", "-d", folder, wheel]
    subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
    return {file.name: file.stat().st_size for file in folder.iterdir()}


@contextmanager
def running_server(
    python: Path, folder: Path, variables: Mapping[str, str] | None = None, *, keep: bool = False
) -> Iterator[None]:
    """A server on a free port, with its data where the quickstart expects it; `keep` leaves them there.

    Raises `DoesNotWork`.
    """
    command: Sequence[str | Path] = [python, "-m", "xtrace_cli", "serve", "--port", "0"]
    folder.mkdir(parents=True, exist_ok=True)
    log = (folder / "server.log").open("w+b")
    process = subprocess.Popen(
        [str(part) for part in command], cwd=folder, stdout=log, stderr=log, env=_bare(variables or {})
    )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not (folder / "xtrace-data" / "credentials.json").exists():
            if process.poll() is not None or time.monotonic() > deadline:
                log.seek(0)
                raise DoesNotWork(f"the server did not start:\n{log.read().decode(errors='replace')}")
            time.sleep(0.05)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
        log.close()
        if not keep:
            shutil.rmtree(folder / "xtrace-data", ignore_errors=True)


def _bare(variables: Mapping[str, str]) -> dict[str, str]:
    """The environment of a machine that knows nothing of this project."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XTRACE_", "PYTHON", "VIRTUAL_"))}
    return {**kept, **variables}
