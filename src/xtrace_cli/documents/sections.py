"""The output of readers: sections of text with their places, to be split into chunks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from xtrace_cli.documents.records import NOWHERE, Place

_MAX_HEADING: Final = 200
"""The maximum length of a heading or a title; the rest is cut off."""
_MAX_LONELY: Final = 1000
"""The maximum length of headings without text that are put before the next section."""


class UnusableFile(Exception):
    """The file is skipped; the message says why, as the end of a sentence that begins with the file's name."""


@dataclass(frozen=True, slots=True)
class Section:
    """A text that belongs together."""

    text: str
    place: Place = NOWHERE
    line: int | None = None
    """The number of its first line in the file, if the format has lines."""
    row: int | None = None
    """Whether it is a table row: neighbouring rows are joined while they fit into a chunk."""
    is_markdown: bool = False
    is_heading: bool = False
    """Whether it is only a heading."""


@dataclass(slots=True)
class Source:
    """A file as readers get it."""

    data: bytes
    name: str
    """The name of the format, for readers of several formats."""
    encoding: str | None = None
    """The encoding that the user named."""
    notes: list[str] = field(default_factory=list)
    """Notes for the user on how it was read: the ends of sentences that begin with the file's name."""


class Headings:
    """The headings above the current text."""

    def __init__(self) -> None:
        self._open: list[tuple[int, str]] = []

    def enter(self, level: int, text: str) -> None:
        """Enters a heading of this level; 1 is the outermost."""
        while self._open and self._open[-1][0] >= level:
            self._open.pop()
        if heading := short(text):
            self._open.append((level, heading))

    def __str__(self) -> str:
        return " > ".join(text for _, text in self._open)


def short(text: str) -> str:
    """A heading or a title on one line, at most 200 characters of it."""
    line = " ".join(text.split())
    return line if len(line) <= _MAX_HEADING else line[: _MAX_HEADING - 1] + "…"


def titled(title: str, sections: Iterator[Section]) -> Iterator[Section]:
    """Adds the document's title to the sections; a heading without text is put before the next section."""
    lonely: Section | None = None
    for section in sections:
        place = replace(section.place, title=short(title))
        if lonely is None:
            section = replace(section, place=place)
        else:
            section = replace(section, place=place, text=f"{lonely.text}\n{section.text}", line=lonely.line)
        lonely = section if section.is_heading and len(section.text) < _MAX_LONELY else None
        if lonely is None:
            yield section
    if lonely is not None:
        yield lonely


def row_text(names: Sequence[str], values: Sequence[str]) -> str:
    """Returns a table row on one line: each value with its column's name, without empty values."""
    cells = [" ".join(value.split()) for value in values]
    columns = [" ".join(names[i].split()) if i < len(names) else "" for i in range(len(cells))]
    return "; ".join(f"{name}: {cell}" if name else cell for name, cell in zip(columns, cells, strict=True) if cell)
