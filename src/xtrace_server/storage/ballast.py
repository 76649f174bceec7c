"""A file that occupies space on the database's disk, to be removed when the disk is full.

Deletions need space too, because changes are first written to the database's log. Without any, nothing could be deleted
on a full disk.
"""

import logging
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

NAME: Final = "ballast"
_LEAST, _MOST = 2, 64
"""The file is created while the free space is between these multiples of its size: with more, it is not needed."""

_log = logging.getLogger("xtrace")


class Ballast:
    """The ballast file in a folder. All methods block."""

    def __init__(self, folder: Path, size: int) -> None:
        self._file = folder / NAME
        self._size = size

    def make(self) -> None:
        """Creates the file if it is missing, may soon be needed, and fits; otherwise does nothing."""
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
        """Removes the file; returns whether it existed."""
        try:
            self._file.unlink()
        except OSError:
            return False
        _log.warning("the disk is full: the ballast file was removed so that a deletion can be carried out")
        return True
