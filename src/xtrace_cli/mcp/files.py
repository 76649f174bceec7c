"""The files that an agent may load: those below the allowed folders that `xtrace load` would load too."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from xtrace_cli.documents.formats import format_of
from xtrace_cli.documents.walking import UNKNOWN, reason_against
from xtrace_sdk.errors import InaccessibleFile, InvalidArgument


class AllowedFile(NamedTuple):
    """A file that may be read."""

    path: Path
    """Absolute, without links."""
    folder: Path
    """The allowed folder that contains it."""


class AllowedFolders:
    """The folders that were allowed when the server started, and the files that are never read, even there."""

    def __init__(self, folders: Iterable[Path], secrets: Iterable[Path] = ()) -> None:
        """`secrets` are files with keys, and folders full of them.

        Raises `InaccessibleFile` for a folder that does not exist, or is not one.
        """
        self.folders: list[Path] = [_folder(folder) for folder in folders]
        self._secrets = [Path(os.path.realpath(path)) for path in secrets]

    def resolved(self, paths: Sequence[str]) -> list[AllowedFile]:
        """Returns the files at these paths, with links resolved; a relative path is tried in each folder.

        Raises `InvalidArgument` for the first one that must not be read, whether or not it exists.
        """
        return [self._resolved(path) for path in paths]

    def _resolved(self, given: str) -> AllowedFile:
        if not self.folders:
            raise InvalidArgument("no folder is allowed: start the server with --allow FOLDER")
        if "\0" in given:
            raise InvalidArgument("a path contains a null character, expected the path of a file")
        for folder in self.folders:
            # The same answer for missing files and files outside: the agent must not explore the disk.
            path = Path(os.path.realpath(folder / given))
            if path.is_relative_to(folder) and os.path.isfile(path):  # noqa: PTH113 - never raises
                self._check(folder, path)
                return AllowedFile(path, folder)
        listed = ", ".join(map(str, self.folders))
        raise InvalidArgument(f"the file does not exist in an allowed folder; allowed are files below {listed}")

    def _check(self, folder: Path, path: Path) -> None:
        if any(path.is_relative_to(secret) for secret in self._secrets):
            raise InvalidArgument(f"{path.name} contains keys, which are never loaded")
        reason = reason_against(folder, path) or (None if format_of(path) else UNKNOWN)
        if reason is not None:
            raise InvalidArgument(f"{path.name} is not loaded: {reason}")


def _folder(given: Path) -> Path:
    try:
        folder = Path(os.path.realpath(given, strict=True))
    except OSError as error:
        raise InaccessibleFile(f"the folder {given} cannot be allowed: {error.strerror}") from None
    if not folder.is_dir():
        raise InaccessibleFile(f"the folder {given} cannot be allowed: it is not a folder")
    return folder
