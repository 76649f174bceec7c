"""Word, PowerPoint and Excel documents, read with python-docx, python-pptx and openpyxl."""

import io
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from xtrace_cli.documents.readers.archives import opened
from xtrace_cli.documents.records import Place
from xtrace_cli.documents.sections import Headings, Section, Source, UnusableFile, row_text, short, titled

T = TypeVar("T")


def read_docx(source: Source) -> Iterator[Section]:
    """Yields a section for each heading, and its tables row by row."""
    from docx import Document
    from docx.table import Table

    document = _opened(source, Document)
    above, text = Headings(), [""]

    def section() -> Section:
        return Section("\n".join(text), Place(heading=str(above)), is_heading=not any(map(str.strip, text[1:])))

    def sections() -> Iterator[Section]:
        for block in document.iter_inner_content():
            if isinstance(block, Table):
                text.extend(" | ".join(_once(cell.text for cell in row.cells)) for row in block.rows)
            elif level := _heading_level(block.style.name if block.style is not None else ""):
                if any(text):
                    yield section()
                above.enter(level, block.text)
                text[:] = [block.text, ""]
            else:
                text.append(block.text)
        yield section()

    return titled(document.core_properties.title or "", sections())


def _heading_level(style: str | None) -> int:
    if style == "Title":
        return 1
    name, _, number = (style or "").partition(" ")
    return int(number) if name == "Heading" and number.isdecimal() and len(number) == 1 else 0


def _once(texts: Iterator[str]) -> list[str]:
    """Drops repeated neighbours: a cell that spans several columns is listed once for each."""
    kept: list[str] = []
    for text in texts:
        if not kept or kept[-1] != text:
            kept.append(text)
    return kept


def read_pptx(source: Source) -> Iterator[Section]:
    """Yields a section for each slide: the texts of its shapes, its tables, and the speaker's notes."""
    from pptx import Presentation

    presentation = _opened(source, Presentation)

    def sections() -> Iterator[Section]:
        for number, slide in enumerate(presentation.slides, start=1):
            title = slide.shapes.title
            texts = [text for shape in slide.shapes for text in _shape_texts(shape)]
            if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
                texts.append(slide.notes_slide.notes_text_frame.text)
            heading = short(title.text_frame.text) if title is not None and title.has_text_frame else ""
            yield Section("\n".join(filter(None, texts)), Place(heading=heading, page=number))

    return titled(presentation.core_properties.title or "", sections())


def _shape_texts(shape: Any) -> Iterator[str]:
    if shape.has_text_frame:
        yield shape.text_frame.text
    elif getattr(shape, "has_table", False):
        for row in shape.table.rows:
            yield " | ".join(cell.text_frame.text for cell in row.cells)
    for inner in getattr(shape, "shapes", ()):
        yield from _shape_texts(inner)


def read_xlsx(source: Source) -> Iterator[Section]:
    """Yields a section for each row of each sheet: its values, named by the first row that is not empty."""
    from openpyxl import load_workbook

    workbook = _opened(source, lambda file: load_workbook(file, read_only=True, data_only=True, keep_links=False))

    def sections() -> Iterator[Section]:
        for sheet in workbook.worksheets:
            names: list[str] | None = None
            for number, row in enumerate(sheet.iter_rows(values_only=True), start=1):
                values = ["" if value is None else str(value) for value in row]
                if not any(values):
                    continue
                if names is None:
                    names = values
                else:
                    yield Section(row_text(names, values), Place(sheet=short(sheet.title)), row=number)
            if names is not None and sheet.max_row == 1:
                yield Section(row_text([], names), Place(sheet=short(sheet.title)), row=1)

    return titled(workbook.properties.title or "", sections())


def _opened(source: Source, open_: Callable[[io.BytesIO], T]) -> T:
    opened(source).close()
    try:
        return open_(io.BytesIO(source.data))
    except Exception as error:  # for a damaged file, the libraries may raise anything
        raise UnusableFile(f"it is damaged, or in another format: {type(error).__name__}") from None
