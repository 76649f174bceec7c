"""Files that must survive a crash: whole, private, and synced with their folders."""

import ast
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from xtrace_core.files import create_file, write_file

SOURCES = Path(__file__).parents[3] / "src"
WRITERS = (write_file, create_file)


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, tuple[str, ...]]]:
    """What was synced, in order: the inode, and the names in the folder of it (none of a file)."""
    seen = []
    fsync = os.fsync

    def recording(descriptor: int) -> None:
        fsync(descriptor)
        status = os.fstat(descriptor)
        names = sorted(os.listdir(descriptor)) if stat.S_ISDIR(status.st_mode) else []
        seen.append((status.st_ino, tuple(names)))

    monkeypatch.setattr(os, "fsync", recording)
    return seen


@pytest.mark.parametrize("write", WRITERS)
def test_a_file_is_synced_and_then_the_folder_that_has_its_name(
    write: Callable[[Path, bytes], None], tmp_path: Path, synced: list[tuple[int, tuple[str, ...]]]
) -> None:
    path = tmp_path / "new" / "folder" / "file"
    write(path, b"content")
    assert path.read_bytes() == b"content"
    assert synced == [
        (path.parent.parent.stat().st_ino, ("folder",)),
        (tmp_path.stat().st_ino, ("new",)),
        (path.stat().st_ino, ()),
        (path.parent.stat().st_ino, ("file",)),
    ]


@pytest.mark.parametrize("write", WRITERS)
def test_files_and_folders_are_the_owners_alone(write: Callable[[Path, bytes], None], tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write(tmp_path / "folder" / "file", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "folder" / "file").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o700


def test_an_existing_file_is_replaced_by_the_one_and_kept_by_the_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")
    path.chmod(0o644)
    with pytest.raises(FileExistsError):
        create_file(path, b"after")
    assert path.read_bytes() == b"before"
    write_file(path, b"after")
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"after", 0o600)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
@pytest.mark.parametrize("write", WRITERS)
def test_what_cannot_be_written_leaves_nothing_behind(
    write: Callable[[Path, bytes], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full: what is written goes to /dev/full."""
    fdopen = os.fdopen

    def full(descriptor: int, mode: str) -> object:
        os.dup2(os.open("/dev/full", os.O_WRONLY), descriptor)
        return fdopen(descriptor, mode)

    monkeypatch.setattr(os, "fdopen", full)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "file", b"content")
    assert list(tmp_path.iterdir()) == []


def test_nothing_else_syncs_replaces_or_makes_drafts_of_files() -> None:
    """One module writes what must survive a crash. SQLite syncs its own files."""
    alone = {"fsync", "mkstemp", "link", "O_EXCL", "NamedTemporaryFile"}
    users = {}
    for file in sorted(SOURCES.rglob("*.py")):
        names = {node.attr for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Attribute)}
        if names & alone:
            users[str(file.relative_to(SOURCES))] = names & alone
    assert users.pop("xtrace_core/files.py") == {"fsync", "mkstemp", "link"}
    # One makes the empty file that SQLite then opens, for its mode; the other a file that only takes up space.
    made = ["xtrace_server/storage/ballast.py", "xtrace_server/storage/sqlite/dialect.py"]
    assert users == {file: {"O_EXCL"} for file in made}


def test_a_symbolic_link_stays_one_and_its_target_is_written(tmp_path: Path) -> None:
    target, link = tmp_path / "mounted" / "context.json", tmp_path / "context.json"
    link.symlink_to(target)
    for data in (b"first", b"second"):
        write_file(link, data)
        assert link.is_symlink()
        assert (target.is_symlink(), target.read_bytes()) == (False, data)


@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "link to a device", "circle"])
def test_what_is_not_a_file_is_not_replaced(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "path"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "circle":
        path.symlink_to(path)
    elif kind == "device":
        path = Path("/dev/full")
    else:
        path.symlink_to("/dev/full")
    before = path.lstat()
    with pytest.raises(OSError, match=r"not a regular file|symbolic links"):
        write_file(path, b"data")
    assert (path.lstat().st_mode, path.lstat().st_ino) == (before.st_mode, before.st_ino)
    assert not list(tmp_path.glob(".path.*"))
