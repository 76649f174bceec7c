"""Locks between processes, on open files. They end when their process ends, however it ends.

POSIX systems lock files and folders (`flock`), exclusively or shared. Windows locks only ranges of files, and only
exclusively: there, a folder's lock is on the file `.lock` in it.
"""

import importlib
import os
from pathlib import Path
from typing import Any, Final


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return None


_fcntl: Any = _module("fcntl")
_msvcrt: Any = _module("msvcrt")
_PLACE: Final = 2**30
"""The byte to lock on Windows: past the end of such files, because other processes cannot read a locked range."""


def has_shared_locks() -> bool:
    """Returns whether the system has shared locks, and locks that a child process inherits."""
    return _fcntl is not None


def open_folder(folder: Path) -> int:
    """Returns an open file that stands for the folder, to be locked. Raises `OSError`."""
    if _fcntl is not None:
        return os.open(folder, os.O_RDONLY)
    return os.open(folder / ".lock", os.O_CREAT | os.O_RDWR, 0o600)


def lock(descriptor: int, *, shared: bool = False, wait: bool = False) -> bool:
    """Locks an open file, and returns whether that succeeded. With `wait`, waits until it does.

    A lock that this file already has changes between exclusive and shared. Closing the file unlocks it.
    """
    if _fcntl is not None:
        kind = _fcntl.LOCK_SH if shared else _fcntl.LOCK_EX
        try:
            _fcntl.flock(descriptor, kind if wait else kind | _fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
    before = os.lseek(descriptor, 0, os.SEEK_CUR)
    os.lseek(descriptor, _PLACE, os.SEEK_SET)
    try:
        while True:
            try:
                # LK_LOCK tries for ten seconds.
                _msvcrt.locking(descriptor, _msvcrt.LK_LOCK if wait else _msvcrt.LK_NBLCK, 1)
                return True
            except OSError:
                if not wait:
                    return False
    finally:
        os.lseek(descriptor, before, os.SEEK_SET)
