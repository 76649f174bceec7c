"""A chunk of a file as a record of a collection: its id, and its metadata (docs/loading.md lists the fields).

`xtrace load` writes these records, and `xtrace search` prints them. The record of a file's first chunk, its *head*,
also stores the state of the whole file in the field `file`. It is written last, so it shows what is completely stored.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec

if TYPE_CHECKING:
    from xtrace_sdk import Record

TAGS: Final = ("tag1", "tag2", "tag3", "tag4", "tag5")
FACETS: Final = "facets"
FILE: Final = "file"
"""The field that only heads have."""

_NOT_FILTERABLE: Final = (
    "title", "heading", "sheet", "row", "cell", "lines", "position", "modified",
    "file.digest", "file.chunks", "file.root", "file.extent",
)  # fmt: skip
FILTERABLE: Final[Mapping[str, bool]] = {"*": True, **dict.fromkeys(_NOT_FILTERABLE, False)}
"""What the service can filter by in a collection that `xtrace load` creates: all fields except those that differ in
nearly every chunk. So fields that a later load adds are filterable too."""
OWN_FIELDS: Final = frozenset(
    ["source", "title", "heading", "page", "sheet", "row", "cell", "lines", "position", "format", "modified", FILE]
)
"""Fields that a user's own metadata cannot have."""

MAX_PATH_CHARACTERS: Final = 4000
"""The maximum length of a path in an id, which leaves room for the position."""
_INVALID: Final = re.compile("[\udc80-\udcff]+")
_TO_ENCODE: Final = re.compile("[%\udc80-\udcff]+")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a text is in its file, as far as the format allows. Lines, rows, cells and pages count from 1.

    `lines` and `row` are a number or a range such as `12-40`.
    """

    title: str = ""
    """The title of the document."""
    heading: str = ""
    """The headings above it, outermost first, joined by ` > `."""
    page: int | None = None
    """The page of a PDF or the slide of a presentation."""
    sheet: str = ""
    row: str = ""
    """The rows of a table, or the entries of a JSON list."""
    cell: int | None = None
    """The cell of a notebook."""
    lines: str = ""

    def metadata(self) -> dict[str, Any]:
        """The fields that are set."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in values.items() if value not in ("", None)}

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> Self:
        """Returns the place in a record's metadata; ignores fields of other types, which other programs wrote."""
        read: dict[str, Any] = {}
        for name in cls.__slots__:
            value = metadata.get(name)
            is_number = isinstance(value, int) and not isinstance(value, bool)
            if is_number if name in ("page", "cell") else isinstance(value, str):
                read[name] = value
        return cls(**read)

    def __str__(self) -> str:
        """The place for people: `page 3, Terms > Payment`."""
        parts = [_named(name, getattr(self, name)) for name in ("page", "sheet", "cell", "row")]
        if not any(parts):
            parts = [_named("line", self.lines)]
        return ", ".join(filter(None, [*parts, self.heading]))


NOWHERE: Final = Place()


@dataclass(frozen=True, slots=True)
class Chunk:
    """A text to store, and where it is in its file."""

    text: str
    place: Place = NOWHERE


class FileState(msgspec.Struct, frozen=True, omit_defaults=True):
    """The state of a file, as its head stores it."""

    digest: str
    """A hash of the content and of everything that determines what is stored; empty while the file is being stored."""
    chunks: int
    """The number of the file's records."""
    root: str
    """The folder that the first part of `source` stands for, as `encoded_path` writes it."""
    extent: int = 0
    """If not 0, positions below this one may have records that no longer belong to the file."""

    @property
    def is_complete(self) -> bool:
        """Whether exactly the records of the file are stored."""
        return bool(self.digest) and not self.extent

    @property
    def positions(self) -> range:
        """Every position that may have a record."""
        return range(max(self.chunks, self.extent))


def shown_source(path: PurePosixPath) -> str:
    """Returns a path as text, for people and filters. Bytes that are not valid UTF-8 are percent-encoded."""
    return _INVALID.sub(_percent, str(path))


def encoded_path(path: PurePosixPath | str) -> str:
    """Returns a path as text that `decoded_path` reverses: invalid bytes and `%` are percent-encoded."""
    return _TO_ENCODE.sub(_percent, str(path))


def decoded_path(text: str) -> PurePosixPath:
    """Reverses `encoded_path`."""
    return PurePosixPath(os.fsdecode(re.sub(rb"%([0-9A-F]{2})", lambda m: bytes.fromhex(m[1].decode()), text.encode())))


def record_id(path: PurePosixPath, position: int) -> str:
    """Returns the id of a chunk's record: the path from the root, and the chunk's position from 0."""
    return f"{encoded_path(path)}#{position}"


def path_and_position(record_id: str) -> tuple[PurePosixPath, int] | None:
    """Reverses `record_id`; None for any other id."""
    path, separator, position = record_id.rpartition("#")
    if not separator or not path or not re.fullmatch("[0-9]{1,12}", position):
        return None
    return decoded_path(path), int(position)


def head_of(record: "Record") -> tuple[PurePosixPath, FileState] | None:
    """Returns the file's path and state if the record is a head, else None."""
    place = path_and_position(record.id)
    if place is None or place[1] != 0:
        return None
    try:
        return place[0], msgspec.convert(record.metadata.get(FILE), FileState)
    except msgspec.ValidationError:
        return None


def _named(name: str, value: int | str | None) -> str:
    if not value:
        return ""
    return f"{name}s {value}" if name != "sheet" and "-" in str(value) else f"{name} {value}"


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in os.fsencode(match[0]))
