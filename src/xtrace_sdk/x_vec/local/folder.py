"""The folder of the local indexes: a file for each knowledge base and context, under a pseudonym."""

import os
import sys
from pathlib import Path
from typing import Final, NamedTuple

SUFFIX: Final = ".sqlite3"


class IndexOnDisk(NamedTuple):
    """An index in the folder."""

    path: Path
    size: int
    """In bytes, with SQLite's log."""
    used_at: float
    """Unix time."""


def default_folder() -> Path:
    """Where indexes are kept by default: the user's folder for data that can be fetched again."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        given = Path(os.environ.get("XDG_CACHE_HOME") or "")
        base = given if given.is_absolute() else Path.home() / ".cache"
    return base / "xtrace" / "local"


def indexes(folder: Path) -> list[IndexOnDisk]:
    """The indexes in a folder, the least recently used first."""
    found = [
        IndexOnDisk(path, sum(_size(one) for one in _files(path)), path.stat().st_mtime)
        for path in folder.glob("*" + SUFFIX)
    ]
    return sorted(found, key=lambda one: one.used_at)


def remove(path: Path) -> None:
    """Removes an index with its log."""
    for one in _files(path):
        one.unlink(missing_ok=True)


def _files(path: Path) -> list[Path]:
    return [path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm")]


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
