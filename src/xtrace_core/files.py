"""Writes the files that must survive a crash: contexts, keys, credentials. No other module does.

A file is written under another name, synced and renamed, and then its folder is synced: once a call returns, the
complete file survives even a power failure. Files get mode 0600, new folders 0700.
"""

import errno
import itertools
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path
from typing import BinaryIO


def write_file(path: Path, data: bytes) -> None:
    """Writes the file and missing folders; an existing file is replaced. Raises `OSError`, and then changes nothing."""
    with new_file(path) as file:
        file.write(data)


@contextmanager
def new_file(path: Path, *, replace: bool = True) -> Iterator[BinaryIO]:
    """A file to write to. It appears, or replaces an existing one, when the block ends; missing folders are created.

    If the block raises, nothing is changed. A symbolic link is followed. Raises `OSError`, also if the path is not a
    regular file (but a device, a folder or a pipe), and, without `replace`, if anything exists when the block ends.
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
    """Writes a new file and missing folders, completely or not at all.

    If several processes create it at once, one succeeds, and the others raise `FileExistsError`. Raises other
    `OSError`s too, for example on a file system without hard links.
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
    """Renames a file to `PATH.1`, or to the next free number, and returns the new path. Raises `OSError`."""
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
    """Resolves symbolic links. Raises `OSError` if something other than a regular file exists there."""
    with suppress(RuntimeError):  # raised for links in a circle before Python 3.13
        path = path.resolve() if path.is_symlink() else path
    if path.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
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
        # Some network file systems cannot sync a folder, and say so; nothing more can be done there.
        if error.errno not in (errno.EBADF, errno.EINVAL):
            raise
    finally:
        os.close(descriptor)
