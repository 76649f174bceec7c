"""A file that takes up space on the database's disk, so that it can be given up when the disk is full.

Deleting needs space too: what changes is written to the database's log first. Without any, a full disk could not be
emptied.
"""

import logging
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

NAME: Final = "ballast"
_LEAST, _MOST = 2, 64
"""The file is made when as many times its size is free: on an empty disk no one needs it."""

_log = logging.getLogger("xtrace")


class Ballast:
    """The file in a folder. All methods block."""

    def __init__(self, folder: Path, size: int) -> None:
        self._file = folder / NAME
        self._size = size

    def make(self) -> None:
        """Makes the file if it is missing, may soon be needed, and there is room; otherwise does nothing."""
        if not self._size or not hasattr(os, "posix_fallocate"):
            return
        with suppress(OSError):
            free = shutil.disk_usage(self._file.parent).free
            if self._file.exists() or not _LEAST * self._size <= free <= _MOST * self._size:
                return
            descriptor = os.open(self._file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, self._size)
            except OSError:
                self._file.unlink()
            finally:
                os.close(descriptor)

    def give_up(self) -> bool:
        """Removes the file; returns whether there was one."""
        try:
            self._file.unlink()
        except OSError:
            return False
        _log.warning("the disk is full: the ballast file was removed so that a deletion can be carried out")
        return True
