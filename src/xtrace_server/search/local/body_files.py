"""Bodies of blocks as mapped files: named by their hash, shared by the processes of a machine, within a budget.

The database is the truth; a file that is missing or damaged is written again. A file that was removed stays readable
where it is mapped.
"""

import hashlib
import mmap
import os
import time
from collections import OrderedDict
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from xtrace_server.search.spool import disk_faults

_UNFINISHED: Final = ".part"
_ABANDONED_S: Final = 600.0
"""The age of an unfinished file whose process cannot be writing it any longer."""


class BodyFiles:
    """The files in a folder, which is created when needed. Every method blocks; calls must not overlap."""

    def __init__(self, folder: Path, budget: int) -> None:
        """`budget` limits the bytes that remain; a search may need more while it runs."""
        self._folder = folder
        self._budget = budget
        self._sizes: OrderedDict[bytes, int] = OrderedDict()
        """The least recently used is first."""
        self._maps: dict[bytes, memoryview] = {}
        self.held_bytes = 0

    def open(self, hashes: Collection[bytes]) -> dict[bytes, memoryview]:
        """Returns the bodies that there are files of, as they are in memory."""
        found: dict[bytes, memoryview] = {}
        for sha256 in hashes:
            mapped = self._maps.get(sha256) or self._mapped(sha256)
            if mapped is not None:
                found[sha256] = mapped
                self._sizes.move_to_end(sha256)
        return found

    def add(self, bodies: Mapping[bytes, bytes]) -> dict[bytes, memoryview]:
        """Stores bodies, given by their hashes, and returns them as they are in memory.

        Raises `StorageFull`, `StorageReadOnly` and `OSError`.
        """
        found: dict[bytes, memoryview] = {}
        with disk_faults():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for sha256, body in bodies.items():
                self._write(sha256, body)
                found[sha256] = self._kept(sha256, self._map(sha256))
        return found

    def shrink(self) -> None:
        """Removes the least recently used bodies beyond the budget."""
        while self.held_bytes > self._budget and self._sizes:
            self._remove(next(iter(self._sizes)))

    def names(self) -> set[bytes]:
        """Returns the hashes of all files, also of those that other processes have written; counts them too."""
        found = {}
        with suppress(FileNotFoundError):
            for entry in os.scandir(self._folder):
                with suppress(FileNotFoundError, ValueError):
                    if entry.name.endswith(_UNFINISHED):
                        self._remove_abandoned(Path(entry.path))
                    else:
                        found[bytes.fromhex(entry.name)] = entry.stat().st_size
        for sha256 in self._sizes.keys() - found.keys():
            self._forget(sha256)
        for sha256 in found.keys() - self._sizes.keys():
            self._count(sha256, found[sha256])
            self._sizes.move_to_end(sha256, last=False)  # it was not used here
        return set(found)

    def remove(self, hashes: Collection[bytes]) -> None:
        """Removes bodies; processes that have mapped them can still read them."""
        for sha256 in hashes:
            self._remove(sha256)

    def close(self) -> None:
        """Forgets all files, which stay."""
        self._maps.clear()

    def _path(self, sha256: bytes) -> Path:
        return self._folder / sha256.hex()

    def _mapped(self, sha256: bytes) -> memoryview | None:
        """Maps a file; None if it is missing or damaged, for example because the machine lost power."""
        try:
            mapped = self._map(sha256)
        except (FileNotFoundError, ValueError):  # an empty file cannot be mapped
            return None
        return self._kept(sha256, mapped) if hashlib.sha256(mapped).digest() == sha256 else None

    def _map(self, sha256: bytes) -> memoryview:
        with self._path(sha256).open("rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    def _kept(self, sha256: bytes, mapped: memoryview) -> memoryview:
        self._maps[sha256] = mapped
        self._count(sha256, len(mapped))
        return mapped

    def _write(self, sha256: bytes, body: bytes) -> None:
        unfinished = self._folder / f"{sha256.hex()}.{os.getpid()}{_UNFINISHED}"
        try:
            descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(body)
            unfinished.replace(self._path(sha256))
        except OSError:
            with suppress(OSError):
                unfinished.unlink()
            raise

    def _remove(self, sha256: bytes) -> None:
        with suppress(OSError):  # another process has removed it, or has it open on a system that forbids this
            self._path(sha256).unlink()
        self._forget(sha256)

    def _remove_abandoned(self, path: Path) -> None:
        if time.time() - path.stat().st_mtime > _ABANDONED_S:
            path.unlink()

    def _count(self, sha256: bytes, size: int) -> None:
        self.held_bytes += size - self._sizes.get(sha256, 0)
        self._sizes[sha256] = size

    def _forget(self, sha256: bytes) -> None:
        self._maps.pop(sha256, None)
        self.held_bytes -= self._sizes.pop(sha256, 0)
