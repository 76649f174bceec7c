"""Maps the first part of a source to a folder, so that a file has only one source in a knowledge base."""

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

from xtrace_cli.documents.records import FileState, decoded_path, encoded_path, shown_source
from xtrace_cli.errors import WrongUse


class Root(NamedTuple):
    """A folder, and the name with which its sources begin."""

    name: str
    folder: Path

    def source(self, path: Path) -> PurePosixPath:
        """Returns the source of a file or folder in it."""
        return PurePosixPath(self.name) / path.relative_to(self.folder).as_posix()


class Roots:
    """The folders from which a knowledge base was loaded, and those being loaded now.

    A file below several of them belongs to the innermost. So loading a subfolder of a stored folder updates what is
    stored, and loading a parent folder stores nothing twice.
    """

    def __init__(self, stored: Iterable[tuple[PurePosixPath, FileState]]) -> None:
        """`stored` are the files of the knowledge base: their sources and states."""
        self._roots: Final[dict[Path, str]] = {}
        for source, state in stored:
            self._roots[Path(decoded_path(state.root))] = source.parts[0]

    def add(self, path: Path, name: str | None = None, *, has_moved: bool = False) -> None:
        """Adds a file or folder to load: an absolute path without links.

        Raises `WrongUse` if its folder has no name, or the name of a different folder that was loaded before. `name`
        sets another name, and `has_moved` says that it is the same folder.
        """
        folder = path if path.is_dir() else path.parent
        if (known := self._containing(folder)) is not None:
            if name is not None and name != known.name:
                raise WrongUse(f"{_shown(path)} is in {_shown(known.folder)}, which is stored as {known.name}")
            return
        name = name or folder.name
        if not name:
            raise WrongUse(f"{_shown(folder)} has no name: choose a name for its sources with --as NAME")
        others = [known for known, other in self._roots.items() if other == name]
        if others and not has_moved:
            raise WrongUse(
                f"{shown_source(PurePosixPath(name))} is the name of {_shown(others[0])} in this knowledge base, "
                f"but this is {_shown(folder)}: store it under another name with --as NAME, or add --moved if the "
                f"folder has moved"
            )
        for other in others:
            del self._roots[other]
        self._roots[folder] = name

    def of(self, path: Path) -> Root:
        """The root of a file."""
        root = self._containing(path.parent)
        if root is None:
            raise WrongUse(f"{_shown(path)} is not in a loaded folder")
        return root

    def below(self, path: Path) -> list[PurePosixPath]:
        """Returns the prefixes of all sources below a path: each source is one of these, or below one of them."""
        inner = [PurePosixPath(name) for folder, name in self._roots.items() if folder.is_relative_to(path)]
        outer = self._containing(path if path.is_dir() else path.parent)
        return inner if outer is None else [*inner, outer.source(path)]

    def path_of(self, source: PurePosixPath, state: FileState) -> Path:
        """Returns the file of a stored source, at its new place if its folder has moved."""
        folder = Path(decoded_path(state.root))
        if folder not in self._roots:
            folder = next((one for one, name in self._roots.items() if name == source.parts[0]), folder)
        return folder.joinpath(*source.parts[1:])

    def _containing(self, folder: Path) -> Root | None:
        for one in (folder, *folder.parents):
            if one in self._roots:
                return Root(self._roots[one], one)
        return None


def root_text(root: Root) -> str:
    """Returns the folder as a head stores it."""
    return encoded_path(root.folder.as_posix())


def _shown(path: Path) -> str:
    return shown_source(PurePosixPath(path.as_posix()))
