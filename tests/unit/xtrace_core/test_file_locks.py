"""Locks between processes: as POSIX has them, and as Windows has them."""

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from support import windows_like
from xtrace_core import file_locks
from xtrace_core.file_locks import has_shared_locks, lock, open_folder


@pytest.fixture(params=["posix", "windows"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The system whose locks are used."""
    if request.param == "windows":
        monkeypatch.setattr(file_locks, "_fcntl", None)
        msvcrt = SimpleNamespace(locking=windows_like.locking, LK_LOCK=1, LK_NBLCK=2)
        monkeypatch.setattr(file_locks, "_msvcrt", msvcrt)
    return str(request.param)


@pytest.fixture
def two(system: str, tmp_path: Path) -> Iterator[tuple[int, int]]:
    """A folder that is open twice."""
    descriptors = open_folder(tmp_path), open_folder(tmp_path)
    yield descriptors
    for descriptor in descriptors:
        os.close(descriptor)


def test_one_of_two_has_an_exclusive_lock(two: tuple[int, int]) -> None:
    one, other = two
    assert lock(one)
    assert lock(one)
    assert not lock(other)
    assert not lock(other, shared=True)


def test_a_lock_ends_when_its_file_is_closed(system: str, tmp_path: Path) -> None:
    one, other = open_folder(tmp_path), open_folder(tmp_path)
    assert lock(one)
    os.close(one)
    assert lock(other, wait=True)
    os.close(other)


def test_two_have_a_shared_lock_where_the_system_has_them(system: str, two: tuple[int, int]) -> None:
    assert has_shared_locks() is (system == "posix")
    assert lock(two[0], shared=True)
    assert lock(two[1], shared=True) is has_shared_locks()


def test_a_folder_gets_a_file_only_where_it_cannot_be_locked_itself(system: str, tmp_path: Path) -> None:
    os.close(open_folder(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ([] if system == "posix" else [".lock"])


def test_the_position_in_a_file_stays(system: str, tmp_path: Path) -> None:
    with (tmp_path / "file").open("w+b") as file:
        file.write(b"content")
        file.seek(3)
        assert lock(file.fileno())
        assert file.read() == b"tent"
