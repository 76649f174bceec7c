"""PDF, read with pypdf: the text of each page, under the headings of the document's outline."""

import io
import logging
from collections.abc import Iterator
from typing import Any

from pypdf import PdfReader
from pypdf.errors import PyPdfError

from xtrace_cli.documents.records import Place
from xtrace_cli.documents.sections import Headings, Section, Source, UnusableFile, titled

_DEEPEST = 6
_MOST_HEADINGS = 5000


def read(source: Source) -> Iterator[Section]:
    """Yields a section for each page with text. A note lists pages without text, such as scanned pictures."""
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    try:
        document = PdfReader(io.BytesIO(source.data), strict=False)
        if document.is_encrypted and not document.decrypt(""):
            raise UnusableFile("it is encrypted with a password")
        pages = len(document.pages)
        headings = _headings(document)
        title = str(document.metadata.title or "") if document.metadata else ""
    except (PyPdfError, *_DAMAGE) as error:
        raise UnusableFile(f"it is damaged: {type(error).__name__}") from None
    return titled(title, _pages(document, pages, headings, source))


_DAMAGE = (ValueError, TypeError, KeyError, AttributeError, IndexError, AssertionError, RecursionError, OSError)
"""What pypdf raises for damaged documents, besides its own errors."""


def _pages(document: PdfReader, count: int, headings: dict[int, str], source: Source) -> Iterator[Section]:
    heading, blank, damaged = "", 0, 0
    for number in range(count):
        heading = headings.get(number, heading)
        try:
            text = document.pages[number].extract_text()
        except (PyPdfError, *_DAMAGE):
            damaged += 1
            continue
        if text.strip():
            yield Section(text.replace("\0", ""), Place(heading=heading, page=number + 1))
        else:
            blank += 1
    if blank + damaged == count:
        raise UnusableFile(f"its {count} pages have no text: they may be scanned pictures")
    if blank:
        source.notes.append(f"has {blank} of {count} pages without text, which may be scanned pictures")
    if damaged:
        source.notes.append(f"has {damaged} of {count} pages that are damaged and were left out")


def _headings(document: PdfReader) -> dict[int, str]:
    """Returns the last heading that begins on each page, with those above it; empty without a usable outline."""
    found: dict[int, str] = {}
    above = Headings()

    def enter(entries: Any, level: int) -> None:
        for entry in entries:
            if isinstance(entry, list):
                if level < _DEEPEST:
                    enter(entry, level + 1)
            elif len(found) < _MOST_HEADINGS:
                above.enter(level, str(entry.title))
                if (page := document.get_destination_page_number(entry)) is not None:
                    found[page] = str(above)

    try:
        enter(document.outline, 1)
    except (PyPdfError, *_DAMAGE):
        return {}
    return found
