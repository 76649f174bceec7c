"""What readers make of a file: sections of text with their places, to be split into chunks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from xtrace_cli.documents.records import NOWHERE, Place

_MAX_HEADING: Final = 200
"""Characters that are kept of a heading or a title."""
_MAX_LONELY: Final = 1000
"""Characters of headings without a text that are put before the next section."""


class UnusableFile(Exception):
    """A file that is passed over; the message says why, as the end of a sentence that begins with its name."""


@dataclass(frozen=True, slots=True)
class Section:
    """A text that belongs together."""

    text: str
    place: Place = NOWHERE
    line: int | None = None
    """The number of its first line in the file, if lines mean something there."""
    row: int | None = None
    """If it is a row of a table: neighbours are put together while they fit into a chunk."""
    is_markdown: bool = False
    is_heading: bool = False
    """Nothing but a heading."""


@dataclass(slots=True)
class Source:
    """A file as a reader gets it."""

    data: bytes
    name: str
    """Its name, for readers that serve several formats."""
    encoding: str | None = None
    """The encoding that the user named."""
    notes: list[str] = field(default_factory=list)
    """What the user should know of how it was read; the ends of sentences that begin with the file's name."""


class Headings:
    """The headings above the text that is being read."""

    def __init__(self) -> None:
        self._open: list[tuple[int, str]] = []

    def enter(self, level: int, text: str) -> None:
        """A heading of this level begins; 1 is the outermost."""
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
    """The sections with the title of their document; a heading without a text of its own begins the next section."""
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
    """A row of a table on one line, each value with the name of its column; empty values are left out."""
    cells = [" ".join(value.split()) for value in values]
    columns = [" ".join(names[i].split()) if i < len(names) else "" for i in range(len(cells))]
    return "; ".join(f"{name}: {cell}" if name else cell for name, cell in zip(columns, cells, strict=True) if cell)
