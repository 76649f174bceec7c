"""Jupyter notebooks: the sources of the cells, without outputs."""

from collections.abc import Iterator

import msgspec

from xtrace_cli.documents.decoding import text_of
from xtrace_cli.documents.readers.markup import markdown_headings
from xtrace_cli.documents.records import Place
from xtrace_cli.documents.sections import Headings, Section, Source, UnusableFile, titled


class _Cell(msgspec.Struct):
    cell_type: str
    source: str | list[str] = ""

    @property
    def text(self) -> str:
        return self.source if isinstance(self.source, str) else "".join(self.source)


class _Notebook(msgspec.Struct):
    cells: list[_Cell]


def read(source: Source) -> Iterator[Section]:
    """Yields a section for each cell, under the headings of the Markdown cells above it."""
    try:
        cells = msgspec.json.decode(text_of(source).encode(), type=_Notebook).cells
    except msgspec.DecodeError as error:
        raise UnusableFile(f"it is not a notebook of format 4: {error}") from None
    except RecursionError:
        raise UnusableFile("it nests too deeply") from None
    above = Headings()
    title = ""
    sections = []
    for number, cell in enumerate(cells, start=1):
        is_markdown = cell.cell_type == "markdown"
        for heading in markdown_headings(cell.text) if is_markdown else ():
            above.enter(heading.level, heading.text)
            title = title or (heading.text if heading.level == 1 else "")
        place = Place(heading=str(above), cell=number)
        sections.append(Section(cell.text, place, is_markdown=is_markdown))
    return titled(title, iter(sections))
