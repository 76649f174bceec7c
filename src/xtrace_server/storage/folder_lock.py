"""Which servers run on a data folder: one alone, or several that were all started to share it.

The lock is held on the folder itself (flock), so it leaves no file behind, and ends with the process however that ends.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

_STARTING = "starting.lock"
"""A file that one of several servers holds while it starts: the next one waits."""


class FolderInUse(Exception):
    """Another server runs on the folder; the message says what to do."""


class FolderLock:
    """Held while a server runs on the folder, as a context manager. Makes the folder (mode 0700) if it is missing.

    With `shared`, other servers that share may run there too. Raises `FolderInUse` and `OSError` when it is entered.
    """

    def __init__(self, folder: Path, shared: bool) -> None:
        self._folder = folder
        self._shared = shared
        self._held: int | None = None
        self._starting: int | None = None
        self.is_alone = True
        """Whether no other server ran there when this one started."""

    def __enter__(self) -> Self:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            if self._shared:
                self._starting = os.open(self._folder / _STARTING, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
                fcntl.flock(self._starting, fcntl.LOCK_EX)
            self._held = os.open(self._folder, os.O_RDONLY | os.O_CLOEXEC)
            self.is_alone = _locked(self._held, fcntl.LOCK_EX)
            if not self.is_alone and not (self._shared and _locked(self._held, fcntl.LOCK_SH)):
                raise FolderInUse(
                    f"another server runs on {self._folder}: stop it, name another folder with --data, or start every "
                    "server on this folder with --shared"
                )
        except BaseException:
            self._release()
            raise
        return self

    def has_started(self) -> None:
        """Lets other servers start that share the folder: what one of them does alone is done."""
        if self._shared and self._held is not None:
            fcntl.flock(self._held, fcntl.LOCK_SH)
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
    """No server starts on the folder within the block. Raises `FolderInUse` if one runs there."""
    held = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if not _locked(held, fcntl.LOCK_EX):
            raise FolderInUse(f"a server runs on {folder}: stop it first")
        yield
    finally:
        os.close(held)


def _locked(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
