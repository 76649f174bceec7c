"""A disk without space: one sentence that says so, nothing half-written, and the same command works afterwards."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli.conftest import PASSPHRASE
from support.terminal import Terminal

Resize = Callable[[str], None]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[tuple[Path, Resize]]:
    """A folder that is a disk of its own, and what gives it another size."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting a tmpfs is not allowed here: {done.stderr.strip()}")
    yield folder, lambda size: _resize(folder, size)
    subprocess.run(["umount", "-l", str(folder)], check=True)


def _resize(folder: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)


@pytest.mark.parametrize("size", ["4k", "16k", "40k", "400k"])
def test_init_says_that_the_disk_is_full_and_works_once_it_is_not(disk: tuple[Path, Resize], size: str) -> None:
    folder, resize = disk
    resize(size)
    shell = Terminal(folder, {"XTRACE_PASSPHRASE": PASSPHRASE})
    result = shell("init --local --yes")
    assert (result.status, result.out) == (1, "")
    last = result.err.splitlines()[-1]  # after what it did before the disk was full
    assert any(words in last for words in ("No space left on device", "no space is left", "disk is full"))
    assert not (folder / ".env").exists()
    assert not list((folder / "keys").glob("*"))
    resize("64m")
    assert shell("init --local --yes").status == 0
    try:
        assert shell("kb list").status == 0
    finally:
        assert shell("local-server stop").status == 0
