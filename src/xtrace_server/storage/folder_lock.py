"""Locks a data folder for one server, or for several that were all started to share it.

The lock is on the folder itself, so it leaves no file behind, and it ends with the process, however that ends.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from xtrace_core.file_locks import has_shared_locks, lock, open_folder

_STARTING = "starting.lock"
"""A file that a server locks while it starts, so that the next one waits."""


class FolderInUse(Exception):
    """Another server runs on the folder; the message says what to do."""


class FolderLock:
    """A context manager, held while a server runs on the folder. Creates the folder (mode 0700) if it is missing.

    `shared` allows other sharing servers. On entry, raises `FolderInUse` and `OSError`.
    """

    def __init__(self, folder: Path, shared: bool) -> None:
        self._folder = folder
        self._shared = shared
        self._held: int | None = None
        self._starting: int | None = None
        self.is_alone = True
        """Whether this server was the first on the folder."""

    def __enter__(self) -> Self:
        if self._shared and not has_shared_locks():
            raise FolderInUse("--shared needs a system with shared locks, which Windows does not have: run one server")
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            if self._shared:
                self._starting = os.open(self._folder / _STARTING, os.O_CREAT | os.O_RDWR, 0o600)
                lock(self._starting, wait=True)
            self._held = open_folder(self._folder)
            self.is_alone = lock(self._held)
            if not self.is_alone and not (self._shared and lock(self._held, shared=True)):
                raise FolderInUse(
                    f"another server runs on {self._folder}: stop it, name another folder with --data, or start every "
                    "server on this folder with --shared"
                )
        except BaseException:
            self._release()
            raise
        return self

    def has_started(self) -> None:
        """Lets other sharing servers start, because the first server's own work is done."""
        if self._shared and self._held is not None:
            lock(self._held, shared=True, wait=True)
        self._end_start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def _release(self) -> None:
        self._end_start()
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def _end_start(self) -> None:
        if self._starting is not None:
            os.close(self._starting)
            self._starting = None


@contextmanager
def no_server_running(folder: Path) -> Iterator[None]:
    """Prevents servers from starting on the folder during the block. Raises `FolderInUse` if one runs there."""
    held = open_folder(folder)
    try:
        if not lock(held):
            raise FolderInUse(f"a server runs on {folder}: stop it first")
        yield
    finally:
        os.close(held)
