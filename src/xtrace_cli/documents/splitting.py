"""Splits sections into chunks of limited length, at the best boundaries."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from semantic_text_splitter import MarkdownSplitter, TextSplitter

from xtrace_cli.documents.records import Chunk
from xtrace_cli.documents.sections import Section

DEFAULT_CHUNK_SIZE: Final = 900
SMALLEST_CHUNK_SIZE: Final = 100
LARGEST_CHUNK_SIZE: Final = 8000
_LONGEST_PIECE: Final = 10_000
"""The splitter needs quadratic time for text without boundaries, so longer texts are cut first."""


@dataclass(frozen=True, slots=True)
class Splitting:
    """The size of chunks and their overlap, in characters."""

    size: int = DEFAULT_CHUNK_SIZE
    overlap: int = 0

    @property
    def largest_overlap(self) -> int:
        """Chunks are filled to between this and the size, so the overlap must be smaller."""
        return self.size * 4 // 9 - 1

    def chunks(self, sections: Iterable[Section]) -> Iterator[Chunk]:
        """Splits the sections, in order, without blank ones. Joins table rows while they fit."""
        rows: list[Section] = []
        for section in sections:
            if rows and not self._fits(rows, section):
                yield _joined(rows)
                rows = []
            if not section.text.strip():
                continue
            if section.row is None or len(section.text) > self.size:
                if rows:
                    yield _joined(rows)
                    rows = []
                yield from self._split(section)
            else:
                rows.append(section)
        if rows:
            yield _joined(rows)

    def _fits(self, rows: list[Section], section: Section) -> bool:
        if section.row is None or section.place != rows[0].place:
            return False
        return sum(len(row.text) + 1 for row in rows) + len(section.text) <= self.size

    def _split(self, section: Section) -> Iterator[Chunk]:
        splitter = (MarkdownSplitter if section.is_markdown else TextSplitter)(
            (self.largest_overlap + 1, self.size), overlap=self.overlap
        )
        place = section.place if section.row is None else replace(section.place, row=str(section.row))
        line, counted = section.line, 0
        for start, piece in _pieces(section.text):
            for offset, text in splitter.chunk_indices(piece):
                if line is None:
                    yield Chunk(text, place)
                    continue
                # Because of the overlap, a chunk may start before the end of the last one: count lines in either
                # direction.
                at = start + offset
                line += (
                    section.text.count("\n", counted, at) if at >= counted else -section.text.count("\n", at, counted)
                )
                counted = at
                yield Chunk(text, replace(place, lines=_span(line, line + text.count("\n"))))


def _pieces(text: str) -> Iterator[tuple[int, str]]:
    """Yields parts of limited length with their positions, cut between paragraphs or lines where possible."""
    start = 0
    while start < len(text):
        end = start + _LONGEST_PIECE
        if end < len(text):
            middle = start + _LONGEST_PIECE // 2
            cut = max(text.rfind("\n\n", middle, end), text.rfind("\n", end - _LONGEST_PIECE // 8, end))
            end = end if cut < 0 else cut + 1
        yield start, text[start:end]
        start = end


def _joined(rows: list[Section]) -> Chunk:
    first, last = rows[0].row or 0, rows[-1].row or 0
    return Chunk("\n".join(row.text for row in rows), replace(rows[0].place, row=_span(first, last)))


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"
