"""Finds the files to load below a folder, and says why others are skipped.

Links are never followed, so nothing outside a named folder is read, and nothing is read twice.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pathspec import GitIgnoreSpec

from xtrace_cli.documents.formats import TEXT, Format, format_of

IGNORE_FILES: Final = (".gitignore", ".xtraceignore")
DEFAULT_MAX_BYTES: Final = 32 << 20
"""The maximum size of one ignore file."""
_MAX_IGNORE_BYTES: Final = 1 << 20

HIDDEN: Final = "hidden"
IGNORED: Final = "named by an ignore file"
UNKNOWN: Final = "not a format that can be loaded"
LINK: Final = "a link"
LINK_OUTSIDE: Final = "a link that leads outside"
SPECIAL: Final = "a device, pipe or socket"
TOO_LARGE: Final = "larger than --max-size"
UNREADABLE: Final = "not readable"


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file to load."""

    path: Path
    """Absolute, without links."""
    format: Format
    bytes: int


@dataclass(slots=True)
class Found:
    """What was found below the named folders."""

    files: list[FoundFile] = field(default_factory=list)
    """The files to load, sorted by path."""
    passed_over: dict[Path, str] = field(default_factory=dict)
    """Skipped files and whole folders, with the reasons."""
    empty_folders: set[Path] = field(default_factory=set)
    unreadable: set[Path] = field(default_factory=set)
    """Files and folders with unknown content, because they could not be read."""


@dataclass(frozen=True, slots=True)
class Walk:
    """How to search for files."""

    max_bytes: int
    with_hidden: bool = False

    def run(self, path: Path, found: Found) -> None:
        """Adds an absolute path without links: a file, or everything below a folder.

        A file that is named explicitly is loaded even if it is hidden, and as text if its suffix is unknown.
        """
        if path.is_dir():
            self._folder(Path(os.path.realpath(path)), path, (), found)
        else:
            self._file(path, path.lstat(), found, format_of(path) or TEXT)

    def _folder(self, root: Path, folder: Path, above: "_Ignoring", found: Found) -> None:
        # An explicit stack: folders may nest deeper than Python's recursion limit.
        waiting: list[tuple[Path, _Ignoring]] = [(folder, above)]
        while waiting:
            folder, ignoring = waiting.pop()
            try:
                with os.scandir(folder) as listing:
                    entries = sorted(listing, key=lambda entry: entry.name)
                ignoring = (*ignoring, *_ignore_specs(folder, {entry.name for entry in entries}))
            except OSError as error:
                found.unreadable.add(folder)
                found.passed_over[folder] = f"{UNREADABLE}: {error.strerror}"
                continue
            if not entries:
                found.empty_folders.add(folder)
            folders = [path for entry in entries if (path := self._entry(root, entry, ignoring, found)) is not None]
            waiting += [(path, ignoring) for path in reversed(folders)]

    def _entry(self, root: Path, entry: os.DirEntry[str], ignoring: "_Ignoring", found: Found) -> Path | None:
        """Handles one entry of a folder; returns it if it is a folder to descend into."""
        path = Path(entry.path)
        is_folder = entry.is_dir(follow_symlinks=False)
        if entry.name.startswith(".") and not (self.with_hidden and entry.name != ".git"):
            if entry.name not in IGNORE_FILES:
                found.passed_over[path] = HIDDEN
        elif _is_ignored(path, is_folder, ignoring):
            found.passed_over[path] = IGNORED
        elif entry.is_symlink():
            found.passed_over[path] = LINK if Path(os.path.realpath(path)).is_relative_to(root) else LINK_OUTSIDE
        elif is_folder:
            return path
        else:
            try:
                self._file(path, entry.stat(follow_symlinks=False), found, format_of(path))
            except OSError as error:
                found.unreadable.add(path)
                found.passed_over[path] = f"{UNREADABLE}: {error.strerror}"
        return None

    def _file(self, path: Path, status: os.stat_result, found: Found, form: Format | None) -> None:
        if not stat.S_ISREG(status.st_mode):
            found.passed_over[path] = SPECIAL
        elif form is None:
            found.passed_over[path] = UNKNOWN
        elif status.st_size > self.max_bytes:
            found.passed_over[path] = TOO_LARGE
        else:
            found.files.append(FoundFile(path, form, status.st_size))


def reason_against(root: Path, path: Path) -> str | None:
    """Returns why a walk through `root` skips a file below it because of its name; None if it does not.

    Both are absolute and without links.
    """
    ignoring: _Ignoring = ()
    folder = root
    for name in path.relative_to(root).parts:
        if name.startswith("."):
            return HIDDEN
        try:
            ignoring = (*ignoring, *_ignore_specs(folder, {one for one in IGNORE_FILES if (folder / one).exists()}))
        except OSError as error:
            return f"{UNREADABLE}: {error.strerror}"
        folder = folder / name
        if _is_ignored(folder, folder != path, ignoring):
            return IGNORED
    return None


_Ignoring = tuple[tuple[Path, GitIgnoreSpec], ...]
"""The ignore files that apply to a folder, outermost first."""


def _ignore_specs(folder: Path, names: set[str]) -> Iterator[tuple[Path, GitIgnoreSpec]]:
    """Raises `OSError` if one cannot be read, because the files that it excludes must not be loaded."""
    for name in IGNORE_FILES:
        if name in names and stat.S_ISREG((folder / name).lstat().st_mode):
            with (folder / name).open("rb") as file:
                text = os.fsdecode(file.read(_MAX_IGNORE_BYTES))
            yield folder, GitIgnoreSpec.from_lines(text.splitlines())


def _is_ignored(path: Path, is_folder: bool, ignoring: _Ignoring) -> bool:
    """Decides as git does: the last matching pattern of the innermost ignore file wins."""
    for folder, spec in reversed(ignoring):
        says = spec.check_file(path.relative_to(folder).as_posix() + ("/" if is_folder else "")).include
        if says is not None:
            return says
    return False


def read_file(path: Path, max_bytes: int) -> tuple[bytes, float]:
    """Returns a file's content and modification time.

    Raises `OSError`, and `ValueError` if it is larger now or no longer a regular file: pipes are not waited for, and
    links are not followed.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(SPECIAL)
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise ValueError(TOO_LARGE)
    return data, status.st_mtime
