"""Systems without fork, shared locks, owners of files and POSIX signals: the program has an answer to each."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import windows_like

ROOT = Path(__file__).parents[2]
LIKE_WINDOWS = [sys.executable, "-W", "error", windows_like.__file__]
XTRACE = [*LIKE_WINDOWS, "-m", "xtrace_cli"]

pytestmark = [pytest.mark.full, pytest.mark.sqlite]


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in which a server runs."""
    here = tmp_path_factory.mktemp("windows")
    with (here / "server.log").open("w+b") as log:
        server = subprocess.Popen([*XTRACE, "serve", "--port", "0"], cwd=here, stdout=log, stderr=log)
        try:
            while not (here / "xtrace-data" / "credentials.json").exists():
                assert server.poll() is None, (here / "server.log").read_text()
                time.sleep(0.05)
            yield here
        finally:
            server.terminate()
            assert server.wait(30) in (0, -15)


def test_the_quickstart_runs(folder: Path) -> None:
    page = ROOT / "docs" / "quickstart.md"
    done = run(folder, *LIKE_WINDOWS, str(ROOT / "tools" / "page_examples.py"), str(page))
    assert done.returncode == 0, done.stderr
    assert "6 examples of quickstart.md ran" in done.stdout


def test_a_key_file_needs_no_modes(folder: Path) -> None:
    (folder / "key.py").write_text(
        "from xtrace_sdk import ExecutionContext, KeyFileProvider\n"
        "key = KeyFileProvider.create('key')\n"
        "ExecutionContext.create(key, 'paillier_lookup', 64, path='context.json')\n"
        "ExecutionContext.load_from_disk(path='context.json', key_provider=KeyFileProvider('key'))\n"
    )
    done = run(folder, *LIKE_WINDOWS, "key.py")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("serve --port 0", "another server runs on xtrace-data"),
        ("serve --port 0 --data other --shared", "--shared needs a system with shared locks"),
        ("serve --port 0 --data other --workers 2", "workers is 2, but this system cannot fork processes"),
        ("init --local --yes", "a private server needs locks that Windows does not have"),
    ],
)
def test_what_there_is_not_is_one_sentence(folder: Path, arguments: str, sentence: str) -> None:
    done = run(folder, *XTRACE, *arguments.split())
    assert done.returncode == 1, done.stderr
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
