"""Files that must survive a crash: contexts, keys, credentials. The only module that writes them.

A file is written under another name, synced and renamed, and its folder is synced after that: once a call returns, the
file is there whole even if the power fails. Files have mode 0600, folders that were missing 0700.
"""

import errno
import itertools
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import BinaryIO


def write_file(path: Path, data: bytes) -> None:
    """Writes the file and missing folders; an existing file is replaced. Raises `OSError`, and then changes nothing."""
    with new_file(path) as file:
        file.write(data)


@contextmanager
def new_file(path: Path, *, replace: bool = True) -> Iterator[BinaryIO]:
    """A file to write to, which appears, or replaces an existing one, when the block ends; missing folders are made.

    When the block raises, nothing is changed. Raises `OSError`. Of a symbolic link the target is written. What is not a
    regular file (a device, a folder, a pipe) is refused, and without `replace` whatever exists when the block ends.
    """
    path = _regular(path)
    _make_folder(path.parent)
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            _sync(file)
        if not replace:
            os.link(draft, path)  # unlike a rename it replaces no file
        else:
            Path(draft).replace(path)
    finally:
        Path(draft).unlink(missing_ok=True)
    _sync_folder(path.parent)


def create_file(path: Path, data: bytes) -> None:
    """Writes a new file and missing folders, whole or not at all.

    Of any number of processes that create it at once, one does. Raises `FileExistsError` in the others, and other
    `OSError`s, also where the file system has no hard links.
    """
    _make_folder(path.parent)
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            _sync(file)
        os.link(draft, path)  # unlike a rename it replaces no file
    finally:
        Path(draft).unlink(missing_ok=True)
    _sync_folder(path.parent)


def publish_file(draft: Path, path: Path) -> None:
    """Moves a finished file to another name on its file system, durably.

    Raises `FileExistsError` if something exists there, and other `OSError`s; then nothing is changed.
    """
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    os.link(draft, path)  # unlike a rename it replaces no file
    draft.unlink()
    _sync_folder(path.parent)


def set_aside(path: Path) -> Path:
    """Gives a file another name, `PATH.1` or the next that is free, and returns it. Raises `OSError`."""
    for number in itertools.count(1):
        kept = path.with_name(f"{path.name}.{number}")
        try:
            os.link(path, kept)  # unlike a rename it replaces no file
        except FileExistsError:
            continue
        path.unlink()
        _sync_folder(path.parent)
        return kept
    raise AssertionError("numbers do not end")


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _regular(path: Path) -> Path:
    """The path behind symbolic links, at which a regular file is, or nothing. Raises `OSError` for anything else."""
    try:
        path = path.resolve() if path.is_symlink() else path
    except RuntimeError:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path)) from None
    if path.exists() and not path.is_file():
        raise FileExistsError(errno.EEXIST, "it exists, but is not a regular file", str(path))
    return path


def _make_folder(folder: Path) -> None:
    missing = list(takewhile(lambda one: not one.exists(), (folder, *folder.parents)))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for one in missing:
        _sync_folder(one.parent)


def _sync_folder(folder: Path) -> None:
    if not hasattr(os, "O_DIRECTORY"):
        return  # Windows opens no folders; its file system keeps a journal of names
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot sync a folder and say so; that is all that can be done there.
        if error.errno not in (errno.EBADF, errno.EINVAL):
            raise
    finally:
        os.close(descriptor)
