"""A chunk of a file as a record of a collection: its id, and its metadata (docs/loading.md lists the fields).

`xtrace load` writes these records, `xtrace search` prints them. The record of a file's first chunk, its *head*, also
has the state of the whole file in the field `file`. It is written last, so a head says what is completely stored.
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
"""What the service can filter by in a collection that `xtrace load` creates: everything but what nearly every chunk has
of its own. So a field that a later load brings is filterable, too."""
OWN_FIELDS: Final = frozenset(
    ["source", "title", "heading", "page", "sheet", "row", "cell", "lines", "position", "format", "modified", FILE]
)
"""Fields that a user's own metadata cannot have."""

MAX_PATH_CHARACTERS: Final = 4000
"""Of a path as it is written in ids, which leaves room for the position."""
_INVALID: Final = re.compile("[\udc80-\udcff]+")
_TO_ENCODE: Final = re.compile("[%\udc80-\udcff]+")


@dataclass(frozen=True, slots=True)
class Place:
    """Where in its file a text stands, as far as the format has such places. Lines, rows, cells and pages count from 1.

    `lines` and `row` are a number or a span, as in `12-40`.
    """

    title: str = ""
    """The title of the document."""
    heading: str = ""
    """The headings above, outermost first, with ` > ` between."""
    page: int | None = None
    """The page of a PDF, the slide of a presentation."""
    sheet: str = ""
    row: str = ""
    """The rows of a table, or the entries of a list of JSON."""
    cell: int | None = None
    """The cell of a notebook."""
    lines: str = ""

    def metadata(self) -> dict[str, Any]:
        """The fields that are known."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in values.items() if value not in ("", None)}

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> Self:
        """The place that a record's metadata names; fields of other types, which other programs wrote, are left out."""
        read: dict[str, Any] = {}
        for name in cls.__slots__:
            value = metadata.get(name)
            is_number = isinstance(value, int) and not isinstance(value, bool)
            if is_number if name in ("page", "cell") else isinstance(value, str):
                read[name] = value
        return cls(**read)

    def __str__(self) -> str:
        """For people: `page 3, Terms > Payment`."""
        parts = [_named(name, getattr(self, name)) for name in ("page", "sheet", "cell", "row")]
        if not any(parts):
            parts = [_named("line", self.lines)]
        return ", ".join(filter(None, [*parts, self.heading]))


NOWHERE: Final = Place()


@dataclass(frozen=True, slots=True)
class Chunk:
    """A text to store, and where it stands."""

    text: str
    place: Place = NOWHERE


class FileState(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a head says of its file."""

    digest: str
    """Over the file's content and all that decides what is stored of it; empty while it is being stored."""
    chunks: int
    """How many records the file has."""
    root: str
    """The folder that the first part of `source` stands for, as `encoded_path` writes it."""
    extent: int = 0
    """If not 0: there may be records with positions below this one that do not belong to the file any more."""

    @property
    def is_complete(self) -> bool:
        """Whether exactly the records of the file are stored."""
        return bool(self.digest) and not self.extent

    @property
    def positions(self) -> range:
        """Every position at which there may be a record."""
        return range(max(self.chunks, self.extent))


def shown_source(path: PurePosixPath) -> str:
    """A path as text, for people and for filters. Bytes of a name that are not valid UTF-8 are percent-encoded."""
    return _INVALID.sub(_percent, str(path))


def encoded_path(path: PurePosixPath | str) -> str:
    """A path as text that `decoded_path` turns back: invalid bytes and `%` itself are percent-encoded."""
    return _TO_ENCODE.sub(_percent, str(path))


def decoded_path(text: str) -> PurePosixPath:
    """The path that `encoded_path` was given."""
    return PurePosixPath(os.fsdecode(re.sub(rb"%([0-9A-F]{2})", lambda m: bytes.fromhex(m[1].decode()), text.encode())))


def record_id(path: PurePosixPath, position: int) -> str:
    """The id of the record of a file's chunk: the path from the root, and the chunk's position from 0."""
    return f"{encoded_path(path)}#{position}"


def path_and_position(record_id: str) -> tuple[PurePosixPath, int] | None:
    """What `record_id` was given; None for an id that it did not make."""
    path, separator, position = record_id.rpartition("#")
    if not separator or not path or not re.fullmatch("[0-9]{1,12}", position):
        return None
    return decoded_path(path), int(position)


def head_of(record: "Record") -> tuple[PurePosixPath, FileState] | None:
    """The path and the state of the file whose head the record is; None for any other record."""
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
